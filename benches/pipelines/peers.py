"""One job of a Python engine: peers.py daft|loop image|document|audio|video DATA OUT. Writes Parquet files to OUT."""
import glob
import os
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import work


def paths(data):
    return sorted(glob.glob(f"{data}/*"))


# ---- Daft, native runner
def daft_table(data):
    import daft
    daft.set_runner_native()
    return daft, daft.from_pydict({"url": paths(data)})


def daft_image(data, out):
    daft, df = daft_table(data)

    @daft.cls(max_concurrency=1)
    class Model:
        @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=work.BATCH["image"])
        def __call__(self, tensors):
            return work.labels(np.array(tensors.to_pylist())) if len(tensors) else []

    df = df.with_column("image", df["url"].download().decode_image(mode=daft.ImageMode.RGB))
    df = df.with_column("tensor", df["image"].apply(func=work.picture, return_dtype=daft.DataType.tensor(daft.DataType.float32(), shape=(3, 224, 224))))
    df.with_column("label", Model()(daft.col("tensor"))).select("url", "label").write_parquet(out)


def daft_document(data, out):
    daft, df = daft_table(data)
    t = daft.DataType

    @daft.cls(max_concurrency=1)
    class Model:
        @daft.method.batch(return_dtype=t.fixed_size_list(t.float32(), 384), batch_size=work.BATCH["document"])
        def __call__(self, texts):
            return work.embed(texts.to_pylist()) if len(texts) else []

    df = df.with_column("pages", df["url"].download().apply(work.pages, return_dtype=t.list(t.struct({"text": t.string(), "page_no": t.int64()}))))
    df = df.explode("pages")
    df = df.with_columns({"page": df["pages"]["text"], "page_no": df["pages"]["page_no"]})
    df = df.where(df["page"].not_null())
    df = df.with_column("chunks", df["page"].apply(work.chunks, return_dtype=t.list(t.struct({"text": t.string(), "chunk_no": t.int64()})))).explode("chunks")
    df = df.with_columns({"text": df["chunks"]["text"], "chunk_no": df["chunks"]["chunk_no"]})
    df = df.where(df["text"].not_null())
    df.with_column("embedding", Model()(df["text"])).select("url", "page_no", "chunk_no", "text", "embedding").write_parquet(out)


def daft_audio(data, out):
    daft, df = daft_table(data)
    t = daft.DataType

    @daft.func.batch(return_dtype=t.tensor(t.float32()))
    def prepare(xs):
        return [work.spectrogram(x) for x in xs.to_pylist()]

    @daft.cls(max_concurrency=1)
    class Model:
        @daft.method.batch(return_dtype=t.string(), batch_size=work.BATCH["audio"])
        def __call__(self, mels):
            return work.words(work.transcribe(np.array(mels.to_pylist()))) if len(mels) else []

    df = df.with_column("samples", df["url"].download().apply(work.samples, return_dtype=t.list(t.float32())))
    df = df.with_column("mel", prepare(df["samples"]))
    df.with_column("text", Model()(df["mel"])).select("url", "text").write_parquet(out)


def daft_video(data, out):
    daft, df = daft_table(data)
    t = daft.DataType
    # read_video_frames deadlocks when there are as many files as cores.
    from daft.functions import video_file, video_frames

    @daft.cls(max_concurrency=1)
    class Model:
        @daft.method.batch(return_dtype=t.list(t.struct({"label": t.string(), "score": t.float32(), "box": t.list(t.int32())})), batch_size=work.BATCH["video"])
        def __call__(self, images):
            if not len(images):
                return []
            whole = [[{**d, "box": cut(d["box"])} for d in row] for row in work.detect(images.to_pylist())]
            return daft.Series.from_pylist(whole)

    def cut(box):
        return [int(box[0]), int(box[1]), max(1, round(box[2]) - int(box[0])), max(1, round(box[3]) - int(box[1]))]

    df = df.with_column("f", video_frames(video_file(df["url"]), width=640, height=640, sample_interval_seconds=work.EVERY_S)).explode("f")
    df = df.with_columns({"frame_no": df["f"]["frame_index"], "image": df["f"]["data"].cast(t.image(daft.ImageMode.RGB, 640, 640))}).exclude("f")
    df = df.with_column("d", Model()(df["image"])).explode("d")
    df = df.where(df["d"].not_null())
    df = df.with_columns({"label": df["d"]["label"], "score": df["d"]["score"], "box": df["d"]["box"]})
    df.with_column("object", df["image"].crop(df["box"]).encode_image("png")).select("url", "frame_no", "label", "score", "box", "object").write_parquet(out)


# ---- a loop as an expert writes it: threads that decode ahead, one session, sensible batches
def ahead(items, make, workers=2, depth=8):
    queue = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            queue.append(pool.submit(make, item))
            if len(queue) > depth:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()


def batches(items, size):
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def write(out, columns):
    import pyarrow
    import pyarrow.parquet
    os.makedirs(out, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), out + "/0.parquet")


def read(path):
    with open(path, "rb") as file:
        return file.read()


def loop_image(data, out):
    urls, found = [], []
    for batch in batches(ahead(paths(data), lambda p: (p, work.picture(work.decode_rgb(read(p)))), 2, 64), 32):
        found += work.labels(np.stack([x for _, x in batch]))
        urls += [p for p, _ in batch]
    write(out, {"url": urls, "label": found})


def loop_document(data, out):
    import pyarrow

    def one(path):
        return [(path, page["page_no"], c["chunk_no"], c["text"]) for page in work.pages(read(path)) or [] for c in work.chunks(page["text"])]

    rows, vectors = [], []
    # The parser is not safe for threads: one beside the model. Sorted by length within a window: less padding.
    for window in batches((row for some in ahead(paths(data), one, 1, 4) for row in some), 256):
        order, made = sorted(range(len(window)), key=lambda i: len(window[i][3])), [None] * len(window)
        for batch in batches(order, 16):
            for i, vector in zip(batch, work.embed([window[i][3] for i in batch])):
                made[i] = vector
        rows += window
        vectors += made
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("url", "page_no", "chunk_no", "text"))}
    write(out, columns | {"embedding": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.concatenate(vectors).astype(np.float32)), 384)})


def loop_audio(data, out):
    urls, texts = paths(data), []
    for batch in batches(ahead(urls, lambda p: work.spectrogram(work.samples(read(p))), 2, 32), 16):
        texts += work.words(work.transcribe(np.stack(batch)))
    write(out, {"url": urls, "text": texts})


def loop_video(data, out):
    import queue
    import threading
    ready, rows = queue.Queue(32), []

    def decode():
        for path in paths(data):
            for number, frame in work.frames(path):
                ready.put((path, number, frame))
        ready.put(None)

    threading.Thread(target=decode, daemon=True).start()
    for batch in batches(iter(ready.get, None), 16):
        for (path, number, frame), found in zip(batch, work.detect([x[2] for x in batch])):
            rows += [(path, number, d["label"], d["score"], [float(v) for v in d["box"]], work.png(frame, d["box"])) for d in found]
    write(out, {name: [row[i] for row in rows] for i, name in enumerate(("url", "frame_no", "label", "score", "box", "object"))})


if __name__ == "__main__":
    globals()[f"{sys.argv[1]}_{sys.argv[2]}"](*sys.argv[3:5])
