#!/usr/bin/env python3
"""Train a tiny Whisper (transformers WhisperForConditionalGeneration) from scratch on the corpus of gen_speech.py.

What makes it converge in minutes on two CPU cores:
- mel power is precomputed; utterances, gaps, loudness, tilt and noise are mixed in the mel-power domain.
- encoder heads of the first layers start as relative-offset heads (sinusoid positions x rotation), one head per later
  layer starts as a "everything before me" head, so local context and counting need not be discovered.
- word boundaries are known: the encoder gets a per-frame word loss and a per-frame word-ordinal loss (dropped later), the
  decoder a guided cross-attention loss. Decoder inputs get random token noise, so that free running is stable.
- training starts on short windows (the position table is a fixed sinusoid, its prefix is valid) and ends on 30 s.
"""
import argparse, json, math, os, random, sys, time
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, decoders, trainers, AddedToken
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperFeatureExtractor
sys.path.insert(0, os.path.dirname(__file__)); from gen_speech import WORDS

SR = 16000; NORD = 16
LANGS = ["en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr"]

def make_tokenizer():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    tr = trainers.BpeTrainer(vocab_size=4000, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    t.train_from_iterator([" " + w for w in WORDS] * 20, tr)
    sp = ["<|endoftext|>", "<|startoftranscript|>"] + [f"<|{l}|>" for l in LANGS] + \
         ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in sp])
    t.add_tokens([AddedToken(f"<|{i * 0.02:.2f}|>", special=False, normalized=False) for i in range(1501)])
    return t

def sinusoids(n, d, max_timescale=10000):
    inc = math.log(max_timescale) / (d // 2 - 1)
    inv = torch.exp(-inc * torch.arange(d // 2)); x = torch.arange(n).view(-1, 1) * inv.view(1, -1)
    return torch.cat([x.sin(), x.cos()], 1)

class Net(nn.Module):
    """the library's encoder and decoder, spelled out for any window length and for supervised cross-attention"""
    def __init__(s, m, d): super().__init__(); s.m = m; s.h = m.config.decoder_attention_heads; s.table = sinusoids(1500, d)
    def split(s, x): return x.view(x.shape[0], -1, s.h, x.shape[-1] // s.h).transpose(1, 2)
    def join(s, o): return o.transpose(1, 2).reshape(o.shape[0], o.shape[2], -1)
    def encode(s, x):
        e = s.m.model.encoder; h = F.gelu(e.conv2(F.gelu(e.conv1(x)))).transpose(1, 2); h = h + s.table[:h.shape[1]]; mids = []
        for L in e.layers:
            y = L.self_attn_layer_norm(h); A = L.self_attn
            h = h + A.out_proj(s.join(F.scaled_dot_product_attention(s.split(A.q_proj(y)), s.split(A.k_proj(y)), s.split(A.v_proj(y)))))
            h = h + L.fc2(F.gelu(L.fc1(L.final_layer_norm(h)))); mids.append(h)
        return e.layer_norm(h), mids
    def mix(s, a, q, kv, mask=None):
        sc = s.split(a.q_proj(q) * (q.shape[-1] // s.h) ** -0.5) @ s.split(a.k_proj(kv)).transpose(2, 3)
        w = torch.softmax(sc if mask is None else sc + mask, -1); return a.out_proj(s.join(w @ s.split(a.v_proj(kv)))), w
    def decode(s, ids, enc):
        d = s.m.model.decoder; n = ids.shape[1]; x = d.embed_tokens(ids) + d.embed_positions.weight[:n]; mask = torch.full((n, n), -1e9).triu(1); att = []
        for L in d.layers:
            y = L.self_attn_layer_norm(x); x = x + s.mix(L.self_attn, y, y, mask)[0]; y = L.encoder_attn_layer_norm(x); o, w = s.mix(L.encoder_attn, y, enc); att.append(w); x = x + o
            x = x + L.fc2(F.gelu(L.fc1(L.final_layer_norm(x))))
        return s.m.proj_out(d.layer_norm(x)), att

@torch.no_grad()
def clever_init(m, d, TS0):
    for n, p in m.named_parameters():
        if p.dim() == 2 and "embed" not in n: nn.init.xavier_uniform_(p, 0.6 if n.endswith(("out_proj.weight", "fc2.weight")) else 1.0)
    dec = m.model.decoder; dec.embed_tokens.weight.normal_(0, 0.08); dec.embed_tokens.weight[TS0:TS0 + 1501] = sinusoids(1501, d) * 0.1
    dec.embed_positions.weight.copy_(sinusoids(dec.embed_positions.weight.shape[0], d, 1000) * 0.3)
    H = m.config.encoder_attention_heads; hd = d // H; half = d // 2; w = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half)); f = hd // 2
    def local(A, h, off, g=1.25):
        i = torch.arange(f); r = slice(h * hd, h * hd + f); r2 = slice(h * hd + f, (h + 1) * hd); A.q_proj.weight[h * hd:(h + 1) * hd] *= 0.2; A.k_proj.weight[h * hd:(h + 1) * hd] *= 0.2
        Q, K = A.q_proj.weight, A.k_proj.weight; a = torch.arange(h * hd, h * hd + f); b = a + f; c, s = torch.cos(w[i] * off), torch.sin(w[i] * off)
        K[a, half + i] += g; K[b, i] += g; Q[a, half + i] += g * c; Q[a, i] -= g * s; Q[b, i] += g * c; Q[b, half + i] += g * s
    def past(A, h, gain=5.0):
        i = torch.linspace(14, 48, f).round().long(); t = np.arange(1, 1500, 3); S = np.sin(np.outer(t, w[i].numpy())); av = np.linalg.solve(S.T @ S + 3.0 * np.eye(f), S.T @ np.ones(len(t)))
        av = torch.tensor(av, dtype=torch.float32) * gain / 2.0 * math.sqrt(hd); A.q_proj.weight[h * hd:(h + 1) * hd] *= 0.2; a = torch.arange(h * hd, h * hd + f); b = a + f; Q, K = A.q_proj.weight, A.k_proj.weight
        sc = av.abs().sqrt(); K[a, half + i] += sc; K[b, i] += sc; Q[a, i] += sc * av.sign(); Q[b, half + i] -= sc * av.sign()
    L = m.model.encoder.layers
    for h, o in enumerate((-6, -2, 2, 6)): local(L[0].self_attn, h, o)
    for h, o in enumerate((-12, -4, 4, 12)): local(L[1].self_attn, h, o)
    past(L[2].self_attn, 0); local(L[2].self_attn, 1, -16); local(L[2].self_attn, 2, 9); past(L[3].self_attn, 0)

def edit(r, h):
    D = list(range(len(h) + 1))
    for i in range(1, len(r) + 1):
        P = D; D = [i] + [0] * len(h)
        for j in range(1, len(h) + 1): D[j] = min(P[j] + 1, D[j - 1] + 1, P[j - 1] + (r[i - 1] != h[j - 1]))
    return D[-1]

def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--speech", default="build/models/out/speech"); ap.add_argument("--out", default="build/models/out/whisper"); ap.add_argument("--threads", type=int, default=2); ap.add_argument("--d", type=int, default=128)
    ap.add_argument("--resume"); ap.add_argument("--phases", default="4:3:32:300,8:6.4:20:360,12:12:10:180,12:30:6:240", help="max words:window s:batch:seconds of wall clock"); ap.add_argument("--lr", type=float, default=2e-3); ap.add_argument("--lr-end", type=float, default=0.04); ap.add_argument("--seed", type=int, default=0)
    a = ap.parse_args(); torch.set_num_threads(a.threads); torch.manual_seed(a.seed); rng = random.Random(a.seed); nrng = np.random.default_rng(a.seed); os.makedirs(a.out, exist_ok=True)
    tok = make_tokenizer(); tok.save(f"{a.out}/tokenizer_raw.json"); V = tok.get_vocab_size(); tid = tok.token_to_id; d = a.d
    EOT, SOT, EN, TR, NOTS, NOSPEECH, TS0 = map(tid, ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>", "<|nospeech|>", "<|0.00|>"))
    wid = {w: tok.encode(" " + w).ids for w in WORDS}; assert all(len(v) == 1 for v in wid.values()), wid
    wid = {w: v[0] for w, v in wid.items()}; inv = {v: k for k, v in wid.items()}; cidx = {w: i + 1 for i, w in enumerate(WORDS)}; allw = list(wid.values())
    cfg = WhisperConfig(vocab_size=V, num_mel_bins=80, d_model=d, encoder_layers=4, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=2 * d, decoder_ffn_dim=2 * d, max_source_positions=1500, max_target_positions=448, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        bos_token_id=EOT, eos_token_id=EOT, pad_token_id=EOT, decoder_start_token_id=SOT, suppress_tokens=None, begin_suppress_tokens=None)
    model = WhisperForConditionalGeneration(cfg); clever_init(model, d, TS0); net = Net(model, d); nw = len(WORDS) + 1
    aux = nn.ModuleDict({"mid": nn.Linear(d, nw), "word": nn.Linear(d, nw), "ord": nn.Linear(d, NORD)})
    if a.resume:
        ck = torch.load(f"{a.resume}/ck.pt"); model.load_state_dict({k: v for k, v in ck["model"].items() if "encoder.embed_positions" not in k}, strict=False); aux.load_state_dict(ck["ctc"])
    params = [p for n, p in model.named_parameters() if "encoder.embed_positions" not in n] + list(aux.parameters())
    opt = torch.optim.AdamW(params, lr=a.lr, betas=(0.9, 0.98), weight_decay=0.01)
    z = np.load(f"{a.speech}/train.npz"); M, O = z["mel"], z["offs"]; meta = json.load(open(f"{a.speech}/train.json")); bylen = {}
    for i, x in enumerate(meta): bylen.setdefault(len(x["text"]), []).append(i)
    fe = WhisperFeatureExtractor(feature_size=80); F80 = np.asarray(fe.mel_filters, np.float32); win = np.hanning(401)[:400].astype(np.float32)
    w = nrng.standard_normal(160 * 6000 + 400).astype(np.float32); NP = (np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(w, 400)[::160] * win, axis=1)) ** 2).astype(np.float32) @ F80
    zd = np.load(f"{a.speech}/dev.npz"); dev = [(zd["audio"][zd["offs"][i]:zd["offs"][i + 1]].astype(np.float32) / 32768, x["text"].split()) for i, x in enumerate(json.load(open(f"{a.speech}/dev.json")))]
    devmel = [np.asarray(fe(y, sampling_rate=SR, return_tensors="np")["input_features"])[0] for y, _ in dev]
    print("params", sum(p.numel() for p in params), "vocab", V, "utterances", len(meta), flush=True)

    def sample(maxw, T):
        """-> mel (80 x T), words, spans in encoder positions, first and last speech frame (10 ms)"""
        P = np.zeros((T, 80), np.float32); txt, spans = [], []; first = last = 0; vol = 10 ** rng.uniform(-0.9, 0.05)
        if rng.random() >= 0.04:
            k = rng.randint(1, maxw); pos = first = rng.randint(0, 60) if rng.random() < 0.8 else rng.randint(0, max(1, T - 260))
            for _ in range(12):
                left = k - len(txt)
                if left <= 0: break
                i = rng.choice(bylen[rng.randint(1 if rng.random() < 0.3 else max(1, min(8, left) // 2), min(8, left))]); L = int(O[i + 1] - O[i])
                if pos + L > T - 4:
                    if txt: break
                    pos = first = 0; k = max(1, k // 2); continue
                P[pos:pos + L] += 10.0 ** M[O[i]:O[i + 1]].astype(np.float32) * (vol * rng.uniform(0.7, 1.3)) ** 2; x = meta[i]; txt += x["text"]
                spans += [((pos + s) // 2, max((pos + s) // 2 + 1, (pos + e) // 2)) for s, e in zip(x["s"], x["e"])]; last = pos + x["e"][-1]; pos += L + (rng.randint(0, 25) if rng.random() < 0.6 else rng.randint(25, 150))
            c = rng.uniform(-1, 1); P *= 10.0 ** (rng.uniform(-0.7, 0.7) * np.linspace(-1, 1, 80) + rng.uniform(-0.4, 0.4) * np.sin(np.linspace(0, rng.uniform(3, 12), 80) + 6 * c)).astype(np.float32)
        used = min(T, last + rng.randint(5, 150)) if txt and rng.random() < 0.8 else T
        if rng.random() < 0.75:
            o = rng.randrange(len(NP) - used); P[:used] += NP[o:o + used] * (10.0 ** (2 * rng.uniform(-4.3, -2.0) + rng.uniform(-0.8, 0.8) * np.linspace(-1, 1, 80))).astype(np.float32)
        l = np.log10(np.maximum(P, 1e-10)); l = np.maximum(l, l.max() - 8.0); return ((l + 4.0) / 4.0).T, txt, spans, first + 3, last

    def batch(bs, maxw, T):
        T2 = T // 2; X = np.empty((bs, 80, T), np.float32); ids, sps = [], []; lw = torch.full((bs, T2), -100); lo = torch.full((bs, T2), -100)
        for b in range(bs):
            X[b], t, sp, s, e = sample(maxw, T); ts = bool(t) and rng.random() < 0.2; body = [wid[w] for w in t]; sps.append(sp)
            ids.append([SOT, EN, TR] + ([TS0 + s // 2] + body + [TS0 + min(1500, e // 2)] if ts else [NOTS] + body) + [EOT])
            end = (sp[-1][1] if sp else 0) + 50; lw[b, :end] = 0; lo[b, :end] = len(t) + 1
            p0 = 0
            for k, ((p, q), w) in enumerate(zip(sp, t)): lw[b, p:q] = cidx[w]; lo[b, p0:q] = k + 1; p0 = q
        L = max(map(len, ids)); inp = torch.full((bs, L - 1), EOT); tgt = torch.full((bs, L - 1), -100)
        for i, s in enumerate(ids):
            x = list(s[:-1])
            for j in range(4, len(x)):
                if x[j] < EOT and rng.random() < 0.12: x[j] = rng.choice(allw)
            inp[i, :len(x)] = torch.tensor(x); tgt[i, 2:len(s) - 1] = torch.tensor(s[3:]); tgt[i, 0] = EN if sps[i] else NOSPEECH
            if s[3] == NOTS: tgt[i, 2] = -100
        return torch.from_numpy(X), inp, tgt, sps, lw, lo

    @torch.no_grad()
    def evaluate(T, k):
        E = N = C = R = 0
        for c in range(0, k, 16):
            idx = [i for i in range(c, min(c + 16, k)) if len(dev[i][0]) < T * 160]
            if not idx: continue
            h = net.encode(torch.from_numpy(np.stack([devmel[i][:, :T] for i in idx])))[0]; seq = torch.tensor([[SOT, EN, TR, NOTS]] * len(idx)); done = torch.zeros(len(idx), dtype=torch.bool)
            for _ in range(40):
                nx = net.decode(seq, h)[0][:, -1].argmax(-1); nx[done] = EOT; done |= nx == EOT; seq = torch.cat([seq, nx[:, None]], 1)
                if done.all(): break
            R += int((~done).sum())
            for i, r in zip(idx, seq[:, 4:].tolist()): o = [inv.get(t, "?") for t in r if t != EOT]; E += edit(dev[i][1], o); N += len(dev[i][1]); C += 1
        return f"WER {E / max(N, 1):.3f} ({C} utts, {R} runaway)"
    def save(): torch.save({"model": model.state_dict(), "ctc": aux.state_dict(), "cfg": cfg.to_dict()}, f"{a.out}/ck.pt")

    phases = [tuple(float(x) for x in p.split(":")) for p in a.phases.split(",")]; total = sum(p[3] for p in phases); t00 = time.time(); step = 0; hh = net.h // 2; base = 0.0; lastev = time.time()
    for pi, (maxw, secs, bs, dur) in enumerate(phases):
        maxw, bs, T = int(maxw), int(bs), int(secs * 100); acc = []
        while time.time() - t00 < base + dur:
            fr_ = (time.time() - t00) / total; lr = a.lr * min(1, (step + 1) / 60) * (0.5 * (1 + math.cos(math.pi * min(1, fr_))) * (1 - a.lr_end) + a.lr_end)
            for g in opt.param_groups: g["lr"] = lr
            tb = time.time(); x, inp, tgt, sps, lw, lo = batch(bs, maxw, T); tb = time.time() - tb; h, mids = net.encode(x); lg, att = net.decode(inp, h)
            wts = torch.where(tgt >= TS0, 0.3, 1.0) * (tgt != -100); ce = (F.cross_entropy(lg.flatten(0, 1), tgt.flatten(), ignore_index=-100, reduction="none") * wts.flatten()).sum() / wts.sum()
            c = lambda l, y: F.cross_entropy(l.flatten(0, 1), y.flatten(), ignore_index=-100)
            fm, fw, fo = c(aux["mid"](mids[1]), lw), c(aux["word"](h), lw), c(aux["ord"](h), lo)
            B, Q, lo_, hi_ = [], [], [], []
            for i, sp in enumerate(sps):
                for k, (p, q) in enumerate(sp): B.append(i); Q.append(3 + k); lo_.append(p); hi_.append(q)
                if sp and Q[-1] + 1 < inp.shape[1]: B.append(i); Q.append(3 + len(sp)); lo_.append(sp[-1][1]); hi_.append(sp[-1][1] + 50)      # end: look just behind the last word
            r = torch.arange(T // 2); m = ((r >= torch.tensor(lo_)[:, None]) & (r < torch.tensor(hi_)[:, None])).float(); ok = m.sum(1) > 0
            ga = sum(-((A[B, :hh, Q] * m[:, None]).sum(-1)[ok].clamp(min=1e-6).log().mean()) for A in att) / len(att)
            loss = ce + 0.5 * fm + fw + fo + 0.4 * ga; opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(params, 1.0); opt.step(); step += 1; acc.append((ce.item(), fm.item(), fw.item(), fo.item(), ga.item(), tb))
            if step % 50 == 0: v = np.mean(acc[-50:], 0); print(f"{time.time()-t00:5.0f}s ph {pi} step {step} lr {lr:.1e} ce {v[0]:.3f} mid {v[1]:.3f} word {v[2]:.3f} ord {v[3]:.3f} guide {v[4]:.3f} batch {v[5]:.3f}s", flush=True)
            if time.time() - lastev > 75: print(f"   dev @ {max(T, 640)}: {evaluate(max(T, 640), 32 if T < 2000 else 16)}", flush=True); save(); lastev = time.time()
        base += dur; save(); print(f"phase {pi} end, step {step}: dev @ {max(T, 640)} {evaluate(max(T, 640), 32)}", flush=True)
    print(f"dev @ 3000: {evaluate(3000, 64)}", flush=True)

if __name__ == "__main__": main()
