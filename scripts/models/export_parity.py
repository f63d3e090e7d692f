#!/usr/bin/env python3
"""Random-initialised models for parity checks only: a CLIP two-tower (onnx/text_model.onnx, onnx/vision_model.onnx) and a
YOLOS detector (logits, pred_boxes). Weights are scaled so that outputs vary visibly with the input."""
import json, os, sys
import numpy as np, torch, torch.nn as nn
from tokenizers import Tokenizer, models, pre_tokenizers, normalizers, decoders, processors, trainers, Regex
from transformers import CLIPConfig, CLIPModel, YolosConfig, YolosForObjectDetection
W = dict(dynamo=False, opset_version=17, do_constant_folding=True)

def clip(out):
    os.makedirs(out + "/onnx", exist_ok=True); torch.manual_seed(7)
    t = Tokenizer(models.BPE(unk_token="<|endoftext|>", continuing_subword_prefix="", end_of_word_suffix="</w>", fuse_unk=False))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel(); text = "a photo of a red circle on a green background ; a blue square , the yellow triangle near an orange star and two purple crosses with one white ring , stripes , checkerboard , dots , gradient".split()
    tr = trainers.BpeTrainer(vocab_size=700, special_tokens=["<|startoftext|>", "<|endoftext|>"], end_of_word_suffix="</w>", initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    t.train_from_iterator(text * 20, tr); b, e = t.token_to_id("<|startoftext|>"), t.token_to_id("<|endoftext|>")
    t.post_processor = processors.TemplateProcessing(single="<|startoftext|> $A <|endoftext|>", special_tokens=[("<|startoftext|>", b), ("<|endoftext|>", e)])
    t.save(out + "/tokenizer.json"); V = t.get_vocab_size()
    cfg = CLIPConfig(text_config=dict(vocab_size=V, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=77, bos_token_id=b, eos_token_id=e, pad_token_id=e),
                     vision_config=dict(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=16), projection_dim=32)
    m = CLIPModel(cfg).eval()
    with torch.no_grad():
        for n, p in m.named_parameters():
            if p.ndim > 1 and "logit" not in n: p.mul_(3.0)
    class T(nn.Module):
        def __init__(s): super().__init__(); s.m = m
        def forward(s, input_ids, attention_mask): o = s.m.text_model(input_ids=input_ids, attention_mask=attention_mask); return s.m.text_projection(o.pooler_output), o.last_hidden_state
    class Vn(nn.Module):
        def __init__(s): super().__init__(); s.m = m
        def forward(s, pixel_values): o = s.m.vision_model(pixel_values=pixel_values); return s.m.visual_projection(o.pooler_output), o.last_hidden_state
    ids = torch.full((2, 9), e); ids[:, 0] = b; ids[0, 1:5] = torch.tensor([10, 20, 30, 40]); ids[1, 1:8] = torch.arange(50, 57); att = torch.ones_like(ids); att[0, 6:] = 0; px = torch.randn(2, 3, 64, 64)
    with torch.no_grad(): rt, rv = T()(ids, att)[0].numpy(), Vn()(px)[0].numpy()
    torch.onnx.export(T().eval(), (ids, att), out + "/onnx/text_model.onnx", input_names=["input_ids", "attention_mask"], output_names=["text_embeds", "last_hidden_state"],
        dynamic_axes={"input_ids": {0: "batch_size", 1: "sequence_length"}, "attention_mask": {0: "batch_size", 1: "sequence_length"}, "text_embeds": {0: "batch_size"}, "last_hidden_state": {0: "batch_size", 1: "sequence_length"}}, **W)
    torch.onnx.export(Vn().eval(), (px,), out + "/onnx/vision_model.onnx", input_names=["pixel_values"], output_names=["image_embeds", "last_hidden_state"], dynamic_axes={"pixel_values": {0: "batch_size"}, "image_embeds": {0: "batch_size"}, "last_hidden_state": {0: "batch_size"}}, **W)
    m.eval(); m.save_pretrained(out)
    json.dump({"tokenizer_class": "CLIPTokenizer", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "model_max_length": 77, "do_lower_case": True}, open(out + "/tokenizer_config.json", "w"), indent=1)
    json.dump({"crop_size": {"height": 64, "width": 64}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.48145466, 0.4578275, 0.40821073],
               "image_std": [0.26862954, 0.26130258, 0.27577711], "image_processor_type": "CLIPImageProcessor", "resample": 3, "rescale_factor": 1 / 255, "size": {"shortest_edge": 64}}, open(out + "/preprocessor_config.json", "w"), indent=1)
    import onnxruntime as ort
    print("clip text diff", np.abs(ort.InferenceSession(out + "/onnx/text_model.onnx").run(None, {"input_ids": ids.numpy(), "attention_mask": att.numpy()})[0] - rt).max(),
          "vision diff", np.abs(ort.InferenceSession(out + "/onnx/vision_model.onnx").run(None, {"pixel_values": px.numpy()})[0] - rv).max())

def yolos(out):
    os.makedirs(out + "/onnx", exist_ok=True); torch.manual_seed(11); names = ["circle", "square", "triangle", "star", "cross", "ring"]
    cfg = YolosConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=[128, 128], patch_size=16, num_detection_tokens=16, use_mid_position_embeddings=False,
        id2label={i: c for i, c in enumerate(names)}, label2id={c: i for i, c in enumerate(names)})
    m = YolosForObjectDetection(cfg).eval()
    with torch.no_grad():
        for n, p in m.named_parameters():
            if p.ndim > 1: p.mul_(4.0)
        m.vit.embeddings.detection_tokens.normal_(0, 1.0)
    class D(nn.Module):
        def __init__(s): super().__init__(); s.m = m
        def forward(s, pixel_values): o = s.m(pixel_values=pixel_values); return o.logits, o.pred_boxes
    px = torch.randn(2, 3, 128, 128)
    with torch.no_grad(): ref = [x.numpy() for x in D()(px)]
    torch.onnx.export(D().eval(), (px,), out + "/onnx/model.onnx", input_names=["pixel_values"], output_names=["logits", "pred_boxes"], dynamic_axes={"pixel_values": {0: "batch_size"}, "logits": {0: "batch_size"}, "pred_boxes": {0: "batch_size"}}, **W)
    m.eval(); m.save_pretrained(out)
    json.dump({"do_normalize": True, "do_pad": False, "do_rescale": True, "do_resize": True, "format": "coco_detection", "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "image_processor_type": "YolosImageProcessor",
               "resample": 2, "rescale_factor": 1 / 255, "size": {"height": 128, "width": 128}}, open(out + "/preprocessor_config.json", "w"), indent=1)
    import onnxruntime as ort
    r = ort.InferenceSession(out + "/onnx/model.onnx").run(None, {"pixel_values": px.numpy()}); print("yolos diff", [float(np.abs(a - b).max()) for a, b in zip(r, ref)], r[0].shape, "spread", r[1].std(0).mean())
if __name__ == "__main__":
    torch.set_num_threads(1); clip("build/models/out/clip"); yolos("build/models/out/yolos")
