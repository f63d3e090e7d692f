#!/usr/bin/env python3
"""Tiny anchor-free detector with YOLOv8/11's exported output layout: images (N,3,160,160) in 0..1 -> output0 (N, 4+nc, 500),
rows cx,cy,w,h in input pixels then per-class probabilities (sigmoid applied); strides 8 and 16; NMS is the caller's."""
import argparse, io, json, os, random, sys, time
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from PIL import Image
sys.path.insert(0, os.path.dirname(__file__)); from synth_images import DET, scene
S = 160; NC = len(DET)

def cbr(i, o, k=3, s=1): return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o), nn.SiLU())
class Res(nn.Module):
    def __init__(s, c): super().__init__(); s.a = cbr(c, c); s.b = cbr(c, c)
    def forward(s, x): return x + s.b(s.a(x))
class Det(nn.Module):
    def __init__(s, w=16):
        super().__init__()
        s.s1 = nn.Sequential(cbr(3, w, 3, 2), cbr(w, 2 * w, 3, 2)); s.s2 = nn.Sequential(cbr(2 * w, 4 * w, 3, 2), Res(4 * w)); s.s3 = nn.Sequential(cbr(4 * w, 4 * w, 3, 2), Res(4 * w))
        s.lat = cbr(8 * w, 4 * w, 1); s.heads = nn.ModuleList([nn.Sequential(cbr(4 * w, 4 * w), nn.Conv2d(4 * w, 4 + NC, 1)) for _ in range(2)]); s.strides = (8, 16)
        for h in s.heads: nn.init.constant_(h[-1].bias[4:], -4.0)
        g, st = [], []
        for t in s.strides:
            n = S // t; y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"); g.append((torch.stack([x, y], -1).reshape(-1, 2) + .5) * t); st.append(torch.full((n * n,), float(t)))
        s.register_buffer("pts", torch.cat(g).float()); s.register_buffer("st", torch.cat(st))
    def raw(s, x):
        p3 = s.s2(s.s1(x)); p4 = s.s3(p3); f3 = s.lat(torch.cat([p3, F.interpolate(p4, scale_factor=2.0, mode="nearest")], 1))
        o = torch.cat([h(f).flatten(2) for h, f in zip(s.heads, (f3, p4))], 2).transpose(1, 2)
        l = F.softplus(o[..., :4]) * s.st[:, None]                                   # left, top, right, bottom distances in pixels
        box = torch.cat([s.pts - l[..., :2], s.pts + l[..., 2:]], -1); return box, o[..., 4:]
    def forward(s, x):
        b, c = s.raw(x); return torch.cat([(b[..., :2] + b[..., 2:]) / 2, b[..., 2:] - b[..., :2], c.sigmoid()], -1).transpose(1, 2)

def iou(a, b):
    lt = torch.maximum(a[..., :2], b[..., :2]); rb = torch.minimum(a[..., 2:], b[..., 2:]); i = (rb - lt).clamp(min=0).prod(-1)
    return i / ((a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - i + 1e-6)
def giou(a, b):
    i = iou(a, b); lt = torch.minimum(a[..., :2], b[..., :2]); rb = torch.maximum(a[..., 2:], b[..., 2:]); c = (rb - lt).prod(-1)
    ar = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1); u = ar / (1 + i); return i - (c - u) / (c + 1e-6)

SIZES = [(320, 240), (240, 320), (640, 360), (200, 200), (120, 160)]
def letterbox(im, pad=(114, 114, 114)):
    """scale to fit S x S, centre, pad; returns the picture, the gain and the left/top offset"""
    w, h = im.size; g = min(S / w, S / h); nw, nh = round(w * g), round(h * g); l, t = round((S - nw) / 2 - .1), round((S - nh) / 2 - .1)
    c = Image.new("RGB", (S, S), pad); c.paste(im.resize((nw, nh), Image.BILINEAR) if (nw, nh) != (w, h) else im, (l, t)); return c, g, l, t
def make(n, seed, boxed=0.0):
    """scenes at 160x160; a share `boxed` is rendered at other sizes (sometimes JPEG-compressed) and letterboxed"""
    r = random.Random(seed); xs, os_ = [], []
    for _ in range(n):
        if r.random() < boxed:
            w, h = r.choice(SIZES); im, o = scene(r, w, h)
            if r.random() < .5: f = io.BytesIO(); im.save(f, "JPEG", quality=r.randint(80, 95)); im = Image.open(f).convert("RGB")
            im, g, l, t = letterbox(im); o = [(k, x0 * g + l, y0 * g + t, x1 * g + l, y1 * g + t) for k, x0, y0, x1, y1 in o]
        else: im, o = scene(r, S, S)
        xs.append(np.asarray(im)); os_.append(o)
    return torch.from_numpy(np.stack(xs)).permute(0, 3, 1, 2).contiguous(), os_

def targets(m, objs):
    """each object goes to the points of its stride (by size) nearest to its centre"""
    A = len(m.pts); cls = torch.zeros(A, NC); box = torch.zeros(A, 4); pos = torch.zeros(A, dtype=torch.bool)
    for k, x0, y0, x1, y1 in objs:
        c = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2]); t = 8.0 if max(x1 - x0, y1 - y0) < 36 else 16.0
        d = (m.pts - c).abs().amax(-1); sel = (m.st == t) & (d < t * 0.8) & (m.pts[:, 0] > x0) & (m.pts[:, 0] < x1) & (m.pts[:, 1] > y0) & (m.pts[:, 1] < y1)
        cls[sel] = 0; cls[sel, k] = 1; box[sel] = torch.tensor([x0, y0, x1, y1]).float(); pos |= sel
    return cls, box, pos

def nms(out, conf=0.25, thr=0.45, maxdet=300):
    """(4+nc, A) -> [(class, score, x0,y0,x1,y1)]: class-aware greedy NMS, one label (the best) per anchor, like ultralytics"""
    o = out.T; sc = o[:, 4:].max(1); kl = o[:, 4:].argmax(1); keep = sc > conf; o, sc, kl = o[keep], sc[keep], kl[keep]
    b = np.concatenate([o[:, :2] - o[:, 2:4] / 2, o[:, :2] + o[:, 2:4] / 2], 1); order = np.argsort(-sc, kind="stable"); res = []
    while len(order) and len(res) < maxdet:
        i = order[0]; res.append((int(kl[i]), float(sc[i]), *map(float, b[i]))); r = order[1:]
        lt = np.maximum(b[i, :2], b[r, :2]); rb = np.minimum(b[i, 2:], b[r, 2:]); it = np.clip(rb - lt, 0, None).prod(1)
        u = (b[i, 2:] - b[i, :2]).prod() + (b[r, 2:] - b[r, :2]).prod(1) - it; order = r[~((it / u > thr) & (kl[r] == kl[i]))]
    return res

def ap50(preds, gts, thr=0.5):
    aps = []
    for k in range(NC):
        ds = sorted([(p[1], i, p[2:]) for i, ps in enumerate(preds) for p in ps if p[0] == k], key=lambda t: -t[0]); n = sum(g[0] == k for gs in gts for g in gs); used = set(); tp = []
        for _, i, b in ds:
            best, bj = 0, None
            for j, g in enumerate(gts[i]):
                if g[0] == k and (i, j) not in used:
                    v = iou(torch.tensor(b), torch.tensor(g[1:]).float()).item()
                    if v > best: best, bj = v, j
            tp.append(best >= thr); used.add((i, bj)) if best >= thr else None
        tp = np.array(tp, float); c = np.cumsum(tp); rec = np.concatenate([[0], c / max(n, 1)]); pr = np.concatenate([[1], c / np.arange(1, len(tp) + 1)]) if len(tp) else np.array([1.0])
        pr = np.maximum.accumulate(pr[::-1])[::-1]; aps.append(float(np.sum(np.diff(rec) * pr[1:])) if len(tp) else 0.0)
    return aps

def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--out", default="build/models/out/yolo"); ap.add_argument("--minutes", type=float, default=10); ap.add_argument("--steps", type=int, default=900); ap.add_argument("--resume"); ap.add_argument("--lr", type=float, default=3e-3); ap.add_argument("--seed", type=int, default=1); ap.add_argument("--boxed", type=float, default=0.4); ap.add_argument("--focal", type=float, default=1.0); a = ap.parse_args()
    torch.set_num_threads(1); torch.manual_seed(0); os.makedirs(a.out + "/onnx", exist_ok=True)
    X, O = make(1500, a.seed, a.boxed); Xh, Oh = make(150, 99); m = Det(); m.load_state_dict(torch.load(a.resume)) if a.resume else None; T = [targets(m, o) for o in O]; print("data", X.shape, "params", sum(p.numel() for p in m.parameters()), "covered", np.mean([t[2].any().item() for t in T]), flush=True)
    opt = torch.optim.AdamW(m.parameters(), 2e-3, weight_decay=1e-3); t0 = time.time()
    for s in range(a.steps):
        prog = max(s / a.steps, (time.time() - t0) / (a.minutes * 60))
        if prog >= 1: break
        for g in opt.param_groups: g["lr"] = a.lr * min(1, (s + 1) / 40) * (0.5 * (1 + np.cos(np.pi * prog)) + 0.01)
        i = torch.randint(0, len(X), (16,)); x = X[i].float() / 255; cls = torch.stack([T[j][0] for j in i]); box = torch.stack([T[j][1] for j in i]); pos = torch.stack([T[j][2] for j in i])
        pb, pc = m.raw(x); lb = (1 - giou(pb[pos], box[pos])).mean()
        with torch.no_grad(): q = iou(pb[pos], box[pos])
        tc = cls.clone(); tc[pos] = tc[pos] * (0.5 + 0.5 * q[:, None]); p = pc.sigmoid()
        lc = (F.binary_cross_entropy_with_logits(pc, tc, reduction="none") * torch.where(cls > 0, 1.0, p.detach() ** a.focal)).sum() / pos.sum()
        loss = 2 * lb + lc; opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(m.parameters(), 5.0); opt.step()
        if s % 100 == 99: torch.save(m.state_dict(), a.out + "/ck.pt")
        if s % 50 == 49: print(s + 1, "box", round(lb.item(), 3), "cls", round(lc.item(), 3), round(time.time() - t0), "s", flush=True)
    m.eval(); torch.save(m.state_dict(), a.out + "/ck.pt")
    def score(X_, O_):
        """mAP@0.5 (all boxes above 0.01) and precision / recall at the published threshold 0.25: mAP alone hides false positives"""
        with torch.no_grad(): P = np.concatenate([m(X_[k:k + 50].float() / 255).numpy() for k in range(0, len(X_), 50)])
        tp = n = nd = 0
        for p, o in zip(P, O_):
            used = set(); ds = nms(p); nd += len(ds); n += len(o)
            for k, _, *b in ds:
                v = max(((iou(torch.tensor(b), torch.tensor(g[1:]).float()).item(), j) for j, g in enumerate(o) if g[0] == k and j not in used), default=(0, -1))
                if v[0] >= .5: tp += 1; used.add(v[1])
        return P, ap50([nms(p, 0.01) for p in P], O_), tp / max(nd, 1), tp / n
    P, aps, pr, rc = score(Xh, Oh); Xb, Ob = make(150, 98, 1.0); _, apb, prb, rcb = score(Xb, Ob)
    res = {"native": {"map50": float(np.mean(aps)), "precision_at_0.25": pr, "recall_at_0.25": rc}, "letterboxed": {"map50": float(np.mean(apb)), "precision_at_0.25": prb, "recall_at_0.25": rcb}}
    print("held-out", json.dumps(res), dict(zip(DET, np.round(aps, 3).tolist())), flush=True)
    torch.onnx.export(m, (Xh[:2].float() / 255,), a.out + "/onnx/model.onnx", dynamo=False, opset_version=17, input_names=["images"], output_names=["output0"], dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}})
    m.eval(); import onnx, onnxruntime as ort
    mm = onnx.load(a.out + "/onnx/model.onnx"); names = {i: c for i, c in enumerate(DET)}
    for k, v in {"description": "synthetic shapes detector", "task": "detect", "stride": "16", "batch": "1", "imgsz": f"[{S}, {S}]", "names": str(names), "channels": "3"}.items():
        e = mm.metadata_props.add(); e.key, e.value = k, v
    onnx.save(mm, a.out + "/onnx/model.onnx")
    json.dump({"model_type": "yolo", "task": "detect", "image_size": [S, S], "num_labels": NC, "id2label": {str(k): v for k, v in names.items()}, "label2id": {v: k for k, v in names.items()}, "nms": {"conf": 0.25, "iou": 0.45, "max_det": 300}}, open(a.out + "/config.json", "w"), indent=2)
    json.dump({"do_resize": True, "letterbox": True, "pad_value": 114, "size": {"height": S, "width": S}, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False, "resample": 2, "image_processor_type": "YoloLetterBox"}, open(a.out + "/preprocessor_config.json", "w"), indent=2)
    json.dump({**res, "ap50_native": dict(zip(DET, aps)), "held_out_scenes": [150, 150]}, open(a.out + "/metrics.json", "w"))
    o = ort.InferenceSession(a.out + "/onnx/model.onnx").run(None, {"images": Xh[:4].float().numpy() / 255})[0]; print("onnx max diff", np.abs(o - P[:4]).max(), o.shape, os.path.getsize(a.out + "/onnx/model.onnx"))
if __name__ == "__main__": main()
