"""What the Python engines of the benchmark share: decoding, preparing, models. The same ONNX files as everyone else.

MODELS is the folder of the models in use, THREADS the threads of one model. No engine is imported here.
"""
import io
import os
import threading

import numpy as np

MODELS = os.environ.get("BENCH_MODELS", "")
THREADS = int(os.environ.get("BENCH_THREADS", str(os.cpu_count())))
BATCH = {"image": 100, "document": 10, "audio": 16, "video": 16}
EVERY_S, TOP, LEAST, OVERLAP = 0.4, 3, 0.25, 0.45
PAGES_MAX, CHUNK, LAP, TOKENS_MAX = 100, 2048, 200, 256
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
SCALE, SHIFT = (1 / (255 * STD)).astype(np.float32)[:, None, None], (MEAN / STD).astype(np.float32)[:, None, None]
START, LANGUAGE, TASK, NO_TIMES, END, TOKENS = 50258, 50259, 50359, 50363, 50257, 32
_made, _lock = {}, threading.Lock()


def once(key, make):
    with _lock:
        if key not in _made:
            _made[key] = make()
        return _made[key]


def session(task, graph="model"):
    def make():
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
        if os.environ.get("BENCH_NO_ARENA"):
            options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(f"{MODELS}/{task}/onnx/{graph}.onnx", options, providers=["CPUExecutionProvider"])
    return once((task, graph), make)


# ---- pictures
def decode_rgb(data):
    from PIL import Image
    return Image.open(io.BytesIO(data)).convert("RGB")


def picture(image):
    """A picture to float32 [3, 224, 224]: shorter side to 256, centre cut, normalised."""
    from PIL import Image
    if not isinstance(image, Image.Image):
        image = Image.fromarray(np.ascontiguousarray(image))
    w, h = image.size
    s = 256 / min(w, h)
    image = image.resize((max(256, int(w * s)), max(256, int(h * s))), Image.BILINEAR)
    w, h = image.size
    x, y = (w - 224) // 2, (h - 224) // 2
    cut = np.asarray(image)[y:y + 224, x:x + 224].transpose(2, 0, 1)
    return np.ascontiguousarray(cut, dtype=np.float32) * SCALE - SHIFT


def logits(batch):
    return session("image").run(None, {"pixel_values": batch})[0]


def labels(batch):
    return [f"class{i}" for i in logits(batch).argmax(1)]


# ---- documents
def pages(data):
    import pymupdf
    try:
        document = pymupdf.Document(stream=data, filetype="pdf")
        return [{"text": p.get_text(), "page_no": p.number + 1} for p in document][:PAGES_MAX]
    except Exception:
        return None


def split(text):
    """Paragraph, line, word, letter: pieces of CHUNK letters that lap over by LAP."""
    def pieces(text, separators):
        if len(text) <= CHUNK:
            return [text]
        separator = next((s for s in separators if s == "" or s in text), "")
        parts, small = (list(text) if separator == "" else text.split(separator)), []
        for part in parts:
            small += pieces(part, separators[separators.index(separator) + 1:]) if len(part) > CHUNK else [part]
        out, current, length = [], [], 0
        for part in small:
            if length + len(part) + len(separator) > CHUNK and current:
                out.append(separator.join(current))
                while current and (length > LAP or length + len(part) > CHUNK):
                    length -= len(current[0]) + len(separator)
                    current.pop(0)
            current.append(part)
            length += len(part) + len(separator)
        return out + [separator.join(current)] if current else out
    return [c for c in (x.strip() for x in pieces(text, ["\n\n", "\n", " ", ""])) if c]


def chunks(text):
    return [{"text": t, "chunk_no": i} for i, t in enumerate(split(text))]


def tokenizer():
    def make():
        from tokenizers import Tokenizer
        made = Tokenizer.from_file(f"{MODELS}/document/tokenizer.json")
        made.enable_truncation(TOKENS_MAX)
        made.enable_padding()
        return made
    return once("tokenizer", make)


def embed(texts):
    encoded = tokenizer().encode_batch(texts)
    ids, mask = (np.array([getattr(e, field) for e in encoded], np.int64) for field in ("ids", "attention_mask"))
    run = session("document")
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    out = run.run(None, {i.name: feeds[i.name] for i in run.get_inputs()})[0]
    if out.ndim == 3:
        weight = mask[..., None].astype(np.float32)
        out = (out * weight).sum(1) / weight.sum(1)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)


# ---- speech
def samples(data):
    import soundfile
    x, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    x = x.mean(1)
    if rate == 16000:
        return x
    import soxr
    return soxr.resample(x, rate, 16000)


def mel_filters():
    bins = 80
    def to_mel(f):
        return np.where(f < 1000, f * 3 / 200, 15 + np.log(np.maximum(f, 1) / 1000) * 27 / np.log(6.4))
    def to_hertz(m):
        return np.where(m < 15, m * 200 / 3, 1000 * np.exp((m - 15) * np.log(6.4) / 27))
    edges, frequencies = to_hertz(np.linspace(0, to_mel(np.array(8000.0)), bins + 2)), np.linspace(0, 8000, 201)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    weight = np.maximum(0, np.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle)))
    return (weight * 2 / (high - low)).astype(np.float32)


def spectrogram(x):
    """Samples to float32 [80, 3000]."""
    import scipy.fft
    filters, window = once("mel", lambda: (mel_filters(), np.hanning(401)[:-1].astype(np.float32)))
    x = np.asarray(x, np.float32)[:480000]
    x = np.pad(np.pad(x, (0, 480000 - len(x))), 200, mode="reflect")
    power = scipy.fft.rfft(np.lib.stride_tricks.sliding_window_view(x, 400)[::160][:3000] * window, axis=1)
    mel = np.log10(np.maximum(filters @ (power.real**2 + power.imag**2).astype(np.float32).T, 1e-10))
    return ((np.maximum(mel, mel.max() - 8) + 4) / 4).astype(np.float32)


def transcribe(mels):
    """float32 [n, 80, 3000] to n lists of words' numbers; greedy, at most TOKENS."""
    first, then, n = session("audio", "encoder_model"), session("audio", "decoder_model_merged"), len(mels)
    forbidden = once("forbidden", lambda: np.array(__import__("json").load(open(f"{MODELS}/audio/generation_config.json"))["suppress_tokens"]))
    hidden = first.run(None, {"input_features": mels})[0]
    names = [o.name for o in then.get_outputs()]
    past = {i.name: np.zeros((n, i.shape[1], 0, i.shape[3]), np.float32) for i in then.get_inputs() if i.name.startswith("past")}
    ids, said = np.array([[START, LANGUAGE, TASK, NO_TIMES]] * n), [[] for _ in range(n)]
    done = [False] * n
    for step in range(TOKENS):
        out = dict(zip(names, then.run(None, {"input_ids": ids, "encoder_hidden_states": hidden, "use_cache_branch": np.array([step > 0]), **past})))
        past = {k: out[k.replace("past_key_values", "present")] if step == 0 or ".decoder." in k else v for k, v in past.items()}
        scores = out["logits"][:, -1]
        scores[:, forbidden] = -np.inf
        ids = scores.argmax(1)[:, None]
        for i, token in enumerate(ids[:, 0]):
            done[i] = done[i] or token == END
            if not done[i]:
                said[i].append(int(token))
        if all(done):
            break
    return said


def words(said):
    return [" ".join(f"w{t}" for t in row) for row in said]


# ---- frames
def frames(source):
    """A path to (number, uint8 [640, 640, 3]) of one frame in every EVERY_S seconds at 25 a second."""
    import av
    step = round(25 * EVERY_S)
    with av.open(io.BytesIO(source) if isinstance(source, (bytes, memoryview)) else source) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i % step == 0:
                yield i, frame.reformat(640, 640, format="rgb24").to_ndarray()


def frame_tensor(batch):
    return np.ascontiguousarray(np.stack(batch).transpose(0, 3, 1, 2), dtype=np.float32) / 255


def things(raw):
    """float32 [84, anchors] to the TOP best boxes, overlaps of one class removed."""
    best, scores = raw[4:].argmax(0), raw[4:].max(0)
    kept = []
    for k in sorted(np.flatnonzero(scores > LEAST), key=lambda k: -scores[k]):
        cx, cy, w, h = raw[:4, k]
        box = np.clip([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0, 640)
        if all(best[k] != b["class"] or overlap(box, b["box"]) <= OVERLAP for b in kept):
            kept.append({"class": int(best[k]), "label": f"thing{best[k]}", "score": float(scores[k]), "box": box.tolist()})
        if len(kept) == TOP:
            break
    return kept


def overlap(a, b):
    w, h = max(0, min(a[2], b[2]) - max(a[0], b[0])), max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / area if area > 0 else 0.0


def detect(batch):
    run = session("video")
    # One by one: a small detector on a processor is fastest so.
    return [things(run.run(None, {"images": frame_tensor([np.asarray(f)])})[0][0]) for f in batch]


def png(frame, box):
    from PIL import Image
    x1, y1, x2, y2 = box
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).crop((int(x1), int(y1), max(int(x1) + 1, round(x2)), max(int(y1) + 1, round(y2)))).save(out, format="PNG")
    return out.getvalue()
