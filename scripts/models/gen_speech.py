#!/usr/bin/env python3
"""Render a synthetic speech corpus with libespeak-ng through ctypes (word start times come from its WORD events).

Each utterance is a random sequence of words of a 30-word vocabulary (ten digits + twenty commands), spoken by a random
espeak-ng voice variant, accent, rate, pitch, pitch range and word gap. Test sets use other seeds; heldout_unseen uses
voice variants that training never sees.

train: NAME.npz with `mel` (float16 log10 mel power, frames x 80, concatenated), `offs`, and NAME.json (texts, word starts/ends in 10-ms frames)
tests: NAME.npz with `audio` (int16, 16 kHz, concatenated), `offs`, and NAME.json (texts, voices)
"""
import argparse, ctypes as C, json, os, random, time
from multiprocessing import Pool
import numpy as np
from scipy.signal import resample_poly

WORDS = ("zero one two three four five six seven eight nine start stop pause play open close left right up down "
         "yes no red green blue hello goodbye river window table").split()
TRAIN_VARIANTS = (["", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4"] * 2 + "Andy Annie Denis Gene Lee Michael Mike adam anika linda steph quincy Alicia Andrea Diogo Henrique "
    "Jacky Marco Mario antonio aunty benjamin boris caleb ed edward edward2 grandma grandpa gustave iven iven2 iven3 john kaukovalta klatt klatt2 klatt3 marcelo max michel miguel "
    "norbert pablo paul pedro rob robert sandro shelby steph2 steph3 travis victor zac".split())
HELD_VARIANTS = ["m8", "f5", "Alex", "Hugo", "belinda", "david"]
ACCENTS = ["en-us", "en", "en-us", "en-gb-x-rp"]   # "en" is the British voice

class Ev(C.Structure):
    _fields_ = [("type", C.c_int), ("uid", C.c_uint), ("text_position", C.c_int), ("length", C.c_int), ("audio_position", C.c_int), ("sample", C.c_int), ("user", C.c_void_p), ("id", C.c_char * 8)]
CB = C.CFUNCTYPE(C.c_int, C.POINTER(C.c_short), C.c_int, C.POINTER(Ev))
lib = None; buf = []; marks = []; MEL = None
def _cb(w, n, ev):
    if w and n > 0: buf.append(np.ctypeslib.as_array(w, (n,)).copy())
    i = 0
    while ev[i].type != 0:
        if ev[i].type == 1: marks.append((ev[i].text_position - 1, ev[i].audio_position))
        i += 1
    return 0
cb = CB(_cb)
def init():
    global lib, MEL
    lib = C.CDLL("libespeak-ng.so.1"); rate = lib.espeak_Initialize(2, 0, None, 0); assert rate == 22050, rate; lib.espeak_SetSynthCallback(cb)
    from transformers import WhisperFeatureExtractor
    MEL = np.asarray(WhisperFeatureExtractor(feature_size=80).mel_filters, np.float32)   # 201 x 80
def synth(job):
    """-> 16-kHz float audio, word start times (s), or None when an event is missing"""
    words, accent, variant, speed, pitch, rng_, gap = job
    v = accent + ("+" + variant if variant else ""); buf.clear(); marks.clear()
    if lib.espeak_SetVoiceByName(v.encode()) != 0: raise RuntimeError(v)
    for p, x in ((1, speed), (3, pitch), (4, rng_), (7, gap)): lib.espeak_SetParameter(p, x, 0)
    t = " ".join(words).encode() + b"\0"; lib.espeak_Synth(t, len(t), 0, 1, 0, 1, None, None)
    if not buf: return None
    y = resample_poly(np.concatenate(buf).astype(np.float32) / 32768, 320, 441); pos, o = [], 0
    for w in words: pos.append(o); o += len(w) + 1
    at = dict(reversed(marks)); st = [at.get(p) for p in pos]
    if any(s is None for s in st) or sorted(st) != st: return None
    return np.clip(y, -1, 1), [s / 1000 for s in st]
def logmel(y):
    """unnormalised log10 mel power, frames x 80, with 3 frames of zero padding on both sides"""
    y = np.concatenate([np.zeros(480 + 200, np.float32), y, np.zeros(480 + 200 + (-len(y)) % 160, np.float32)])
    fr = np.lib.stride_tricks.sliding_window_view(y, 400)[::160] * WIN; p = np.abs(np.fft.rfft(fr, axis=1)).astype(np.float32) ** 2
    return np.log10(np.maximum(p @ MEL, 1e-10))
WIN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)).astype(np.float32)
def one_train(job):
    r = synth(job)
    if r is None: return None
    y, st = r; nz = np.flatnonzero(np.abs(y) > 0.01)
    if not len(nz): return None
    a, b = max(0, (nz[0] - 160) // 160 * 160), nz[-1] + 400; m = logmel(y[a:b]); s = [max(3, int((x * 16000 - a) // 160) + 3) for x in st]; e = s[1:] + [int((b - a) // 160) + 3]
    return m.astype(np.float16), s, e
def one_test(job):
    r = synth(job)
    return None if r is None else r[0]
def jobs(n, lo, hi, variants, rng):
    for i in range(n):
        yield ([rng.choice(WORDS) for _ in range(rng.randint(lo, hi))], rng.choice(ACCENTS), rng.choice(variants), rng.randint(115, 190), rng.randint(20, 80), rng.randint(30, 70), rng.choice([0, 0, 2, 5, 10, 15]))
def train_set(name, js, out, pool):
    js = list(js); R = pool.map(one_train, js, chunksize=50); ok = [i for i, r in enumerate(R) if r is not None]
    np.savez(f"{out}/{name}.npz", mel=np.concatenate([R[i][0] for i in ok]), offs=np.cumsum([0] + [len(R[i][0]) for i in ok]))
    json.dump([{"text": js[i][0], "s": R[i][1], "e": R[i][2]} for i in ok], open(f"{out}/{name}.json", "w")); d = np.array([len(R[i][0]) for i in ok]) / 100
    print(name, len(ok), "of", len(js), "utterances", round(d.sum() / 60, 1), "min; mean", round(d.mean(), 2), "max", round(d.max(), 2), flush=True)
def test_set(name, js, out, pool, seed):
    js = list(js); R = pool.map(one_test, js, chunksize=10); g = np.random.default_rng(seed); W, M = [], []
    for j, y in zip(js, R):
        if y is None: continue
        y = np.concatenate([np.zeros(int(g.integers(1600, 9600))), y * g.uniform(0.4, 0.9), np.zeros(int(g.integers(1600, 9600)))]); sd = 10 ** g.uniform(-4, -2.3) if g.random() < 0.7 else 0.0
        W.append((np.clip(y + g.standard_normal(len(y)) * sd, -1, 1) * 32767).astype(np.int16)); M.append({"text": " ".join(j[0]), "accent": j[1], "variant": j[2], "speed": j[3], "pitch": j[4], "gap": j[6], "noise_sd": round(sd, 5)})
    np.savez(f"{out}/{name}.npz", audio=np.concatenate(W), offs=np.cumsum([0] + [len(w) for w in W])); json.dump(M, open(f"{out}/{name}.json", "w")); d = np.array([len(w) for w in W]) / 16000
    print(name, len(W), "utterances", round(d.sum() / 60, 1), "min; mean", round(d.mean(), 2), "max", round(d.max(), 2), flush=True)
if __name__ == "__main__":
    ap = argparse.ArgumentParser(); ap.add_argument("--out", default="build/models/out/speech"); ap.add_argument("--n", type=int, default=10000); a = ap.parse_args(); os.makedirs(a.out, exist_ok=True)
    t = time.time()
    with Pool(2, init) as pool:
        test_set("dev", jobs(64, 2, 8, TRAIN_VARIANTS, random.Random(3)), a.out, pool, 3)
        test_set("heldout_seen", jobs(130, 2, 8, TRAIN_VARIANTS, random.Random(4)), a.out, pool, 4)
        test_set("heldout_unseen", jobs(130, 2, 8, HELD_VARIANTS, random.Random(5)), a.out, pool, 5); print(round(time.time() - t), "s", flush=True)
        train_set("train", jobs(a.n, 1, 8, TRAIN_VARIANTS, random.Random(2)), a.out, pool); print(round(time.time() - t), "s")
