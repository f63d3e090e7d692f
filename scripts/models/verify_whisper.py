#!/usr/bin/env python3
"""Free-running greedy decoding with onnxruntime only (encoder + merged decoder, cached branch) on whole test sets:
uncapped WER (stop at 200 tokens), exact utterances, runaways, no-speech, long compositions; JSON to stdout and to --out."""
import argparse, json, os, sys, time
import numpy as np, onnxruntime as ort
from tokenizers import Tokenizer; from transformers import WhisperFeatureExtractor
sys.path.insert(0, os.path.dirname(__file__)); from train_whisper import edit
ap = argparse.ArgumentParser(); ap.add_argument("--hub", default="build/models/out/whisper_hub"); ap.add_argument("--speech", default="build/models/out/speech"); ap.add_argument("--out", default="build/models/out/whisper_metrics.json"); ap.add_argument("--n", type=int, default=999); a = ap.parse_args()
H = a.hub; t = Tokenizer.from_file(H + "/tokenizer.json"); G = json.load(open(H + "/generation_config.json")); C = json.load(open(H + "/config.json")); fe = WhisperFeatureExtractor(feature_size=80)
so = ort.SessionOptions(); so.intra_op_num_threads = 2; E = ort.InferenceSession(H + "/onnx/encoder_model.onnx", so); D = ort.InferenceSession(H + "/onnx/decoder_model_merged.onnx", so); nl, h, hd = C["decoder_layers"], C["decoder_attention_heads"], C["d_model"] // C["decoder_attention_heads"]
kv = [f"{l}.{w}.{k}" for l in range(nl) for w in ("decoder", "encoder") for k in ("key", "value")]; tid = t.token_to_id; EOT = tid("<|endoftext|>")
def run(wavs, limit=200):
    f = np.concatenate([np.asarray(fe(x, sampling_rate=16000, return_tensors="np")["input_features"]) for x in wavs]); eh = E.run(None, {"input_features": f})[0]; B = len(wavs); p = {"past_key_values." + k: np.zeros((B, h, 0, hd), np.float32) for k in kv}
    ids = np.array([[tid(x) for x in ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")]] * B); out = [[] for _ in wavs]; done = np.zeros(B, bool); ns = None
    for step in range(limit):
        r = D.run(None, {"input_ids": ids, "encoder_hidden_states": eh, "use_cache_branch": np.array([step > 0]), **p})
        for k, v in zip(kv, r[1:]):
            if step == 0 or "decoder" in k: p["past_key_values." + k] = v
        if step == 0: l0 = r[0][:, 0]; e = np.exp(l0 - l0.max(1, keepdims=True)); ns = (e / e.sum(1, keepdims=True))[:, tid("<|nospeech|>")]
        lg = r[0][:, -1].copy(); lg[:, G["suppress_tokens"]] = -1e9
        if step == 0: lg[:, G["begin_suppress_tokens"]] = -1e9
        nx = lg.argmax(1)
        for i in range(B):
            if not done[i]:
                if nx[i] == EOT: done[i] = True
                else: out[i].append(int(nx[i]))
        if done.all(): break
        ids = nx[:, None]
    return out, ns, done
def score(name, wavs, txts):
    err = n = ex = ra = 0; s0 = time.time(); bad = []; nsm = 0.0
    for c in range(0, len(wavs), 8):
        o, ns, done = run(wavs[c:c + 8]); ra += int((~done).sum()); nsm = max(nsm, float(ns.max()))
        for x, r in zip(o, txts[c:c + 8]): y = t.decode(x).split(); q = edit(r.split(), y); err += q; n += len(r.split()); ex += q == 0; bad += [[r, " ".join(y)]] if q else []
    R[name] = {"utterances": len(wavs), "words": n, "errors": err, "wer": round(err / n, 4), "exact": ex, "runaway": ra, "max_no_speech_prob": round(nsm, 4), "wall_s": round(time.time() - s0, 1), "wrong_examples": bad[:6]}; print(name, R[name], flush=True)
R = {}; T = {}
for s in ("heldout_seen", "heldout_unseen"):
    z = np.load(f"{a.speech}/{s}.npz"); m = json.load(open(f"{a.speech}/{s}.json")); W = [z["audio"][z["offs"][i]:z["offs"][i + 1]].astype(np.float32) / 32768 for i in range(len(m))]; T[s] = (W, [x["text"] for x in m]); score(s, W[:a.n], T[s][1][:a.n])
for lo, hi in ((9, 12), (13, 24)):   # several held-out utterances in one 30-s window
    W, X = T["heldout_unseen"]; g = np.random.default_rng(7); ws, xs = [], []
    while len(ws) < 24:
        y, tx = [], []
        while len(tx) < lo: i = int(g.integers(len(W))); y.append(W[i]); tx += X[i].split()
        if len(tx) <= hi and sum(map(len, y)) < 29 * 16000: ws.append(np.concatenate(y)); xs.append(" ".join(tx))
    score(f"unseen_{lo}_{hi}_words", ws, xs)
g = np.random.default_rng(9); o, ns, _ = run([np.zeros(16000, np.float32)] + [(g.standard_normal(16000 * k) * 10.0 ** -e).astype(np.float32) for k, e in ((1, 4), (3, 3), (10, 2.5), (29, 2))]); R["no_speech"] = {"texts": [t.decode(x) for x in o], "no_speech_prob": [round(float(x), 4) for x in ns]}; print(R["no_speech"])
json.dump(R, open(a.out, "w"), indent=1)
