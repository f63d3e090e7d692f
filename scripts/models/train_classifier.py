#!/usr/bin/env python3
"""Tiny transformers ResNetForImageClassification on synthetic pictures -> checkpoint, hub-style config files, ONNX."""
import argparse, json, os, random, sys, time
import numpy as np, torch, torch.nn.functional as F
from PIL import Image
sys.path.insert(0, os.path.dirname(__file__)); from synth_images import CLASSES, classify_sample
from transformers import ResNetConfig, ResNetForImageClassification
PP = {"crop_pct": 0.875, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
      "image_processor_type": "ConvNextImageProcessor", "feature_extractor_type": "ConvNextFeatureExtractor", "resample": 3, "rescale_factor": 1 / 255, "size": {"shortest_edge": 64}}

def preprocess(im, pp=PP):
    """ConvNextImageProcessor, spelled out: shortest edge -> size/crop_pct (bicubic), centre crop, /255, normalise"""
    s = pp["size"]["shortest_edge"]; e = int(s / pp["crop_pct"]); w, h = im.size
    if w <= h: nw, nh = e, int(e * h / w)
    else: nw, nh = int(e * w / h), e
    im = im.convert("RGB").resize((nw, nh), Image.BICUBIC); top, left = (nh - s) // 2, (nw - s) // 2
    a = np.asarray(im, np.float32)[top:top + s, left:left + s] / 255
    return ((a - np.array(pp["image_mean"], np.float32)) / np.array(pp["image_std"], np.float32)).transpose(2, 0, 1)

def make(n, seed):
    r = random.Random(seed); xs, ys = [], []
    for i in range(n):
        y = i % 10; w = r.choice([64, 80, 96]); h = r.choice([64, 80, 96]); xs.append(preprocess(classify_sample(y, r, w, h)[0])); ys.append(y)
    return torch.from_numpy(np.stack(xs).astype(np.float32)), torch.tensor(ys)

def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--out", default="build/models/out/resnet"); ap.add_argument("--steps", type=int, default=360); a = ap.parse_args()
    torch.set_num_threads(1); torch.manual_seed(0); os.makedirs(a.out + "/onnx", exist_ok=True)
    X, Y = make(2400, 1); Xh, Yh = make(500, 99); print("data", X.shape, flush=True)
    cfg = ResNetConfig(num_channels=3, embedding_size=24, hidden_sizes=[24, 48, 96, 128], depths=[1, 1, 1, 1], layer_type="basic",
        id2label={i: c for i, c in enumerate(CLASSES)}, label2id={c: i for i, c in enumerate(CLASSES)}, image_size=64)
    m = ResNetForImageClassification(cfg); opt = torch.optim.AdamW(m.parameters(), 3e-3, weight_decay=1e-3); sch = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, total_steps=a.steps)
    t0 = time.time(); m.train()
    for s in range(a.steps):
        i = torch.randint(0, len(X), (48,)); x = X[i]
        if torch.rand(()) < .5: x = x.flip(-1)
        loss = F.cross_entropy(m(pixel_values=x).logits, Y[i], label_smoothing=.05); opt.zero_grad(); loss.backward(); opt.step(); sch.step()
        if s % 40 == 39: print(s + 1, round(loss.item(), 3), round(time.time() - t0), "s", flush=True)
    m.eval()
    with torch.no_grad(): acc = torch.cat([m(pixel_values=Xh[k:k + 100]).logits.argmax(-1) for k in range(0, 500, 100)]).eq(Yh).float().mean().item()
    print("held-out accuracy", acc, "params", sum(p.numel() for p in m.parameters()), flush=True)
    m.save_pretrained(a.out); json.dump(PP, open(a.out + "/preprocessor_config.json", "w"), indent=2)
    class W(torch.nn.Module):
        def __init__(s): super().__init__(); s.m = m
        def forward(s, pixel_values): return s.m(pixel_values=pixel_values).logits
    torch.onnx.export(W(), (Xh[:2],), a.out + "/onnx/model.onnx", dynamo=False, opset_version=17, input_names=["pixel_values"], output_names=["logits"],
        dynamic_axes={"pixel_values": {0: "batch_size", 2: "height", 3: "width"}, "logits": {0: "batch_size"}})
    m.eval(); import onnxruntime as ort
    o = ort.InferenceSession(a.out + "/onnx/model.onnx").run(None, {"pixel_values": Xh[:8].numpy()})[0]
    with torch.no_grad(): print("onnx max diff", np.abs(o - m(pixel_values=Xh[:8]).logits.numpy()).max(), "bytes", os.path.getsize(a.out + "/onnx/model.onnx"))
    json.dump({"held_out_accuracy": acc, "held_out_n": 500}, open(a.out + "/metrics.json", "w"))
if __name__ == "__main__": main()
