"""Data and models of the benchmark, under one folder. Made once; a second run does nothing.

prepare.py HOME MINILM   photographs from Debian's wallpaper packages cut to the sizes of ImageNet, documents from a Debian package,
speech by espeak-ng in three codecs and four rates, videos that pan over the photographs. MINILM: folder of the embedding model.
"""
import glob
import hashlib
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import graphs

HOME, MINILM = sys.argv[1:3]
PHOTOS, DOCUMENTS = ["mate-backgrounds", "lomiri-wallpapers-16.04"], ["texlive-humanities-doc"]
IMAGES, PDFS, CLIPS, VIDEOS = (int(n) for n in os.environ.get("SIZES", "300 16 24 2").split())
WORDS = """the a of river stone engine query table market winter summer morning city bridge garden music letter number system memory network
planet window station country water people history language travel doctor teacher yellow green silent rapid careful distant modern ancient
simple heavy bright opens carries builds finds returns crosses measures writes follows remembers between under over through""".split()


def packages():
    os.makedirs(f"{HOME}/packages/files", exist_ok=True)
    for name in PHOTOS + DOCUMENTS:
        if not os.path.exists(f"{HOME}/packages/{name}.done"):
            subprocess.run(["apt-get", "download", "-q", name], cwd=f"{HOME}/packages", check=True, stderr=subprocess.DEVNULL)
            deb = glob.glob(f"{HOME}/packages/{name}_*.deb")[0]
            subprocess.run(["dpkg-deb", "-x", deb, f"{HOME}/packages/files"], check=True)
            open(f"{HOME}/packages/{name}.done", "w").close()


def unique(pattern, least):
    seen, out = set(), []
    for path in sorted(glob.glob(f"{HOME}/packages/files/**/{pattern}", recursive=True)):
        digest = hashlib.md5(open(path, "rb").read()).hexdigest()
        if os.path.getsize(path) >= least and digest not in seen and not os.path.islink(path):
            seen.add(digest)
            out.append(path)
    return out


def images(folder):
    from PIL import Image
    Image.MAX_IMAGE_PIXELS = None
    sources = unique("*.jp*g", 200_000)
    each = -(-IMAGES // len(sources))

    def cut(k):
        rng, image = random.Random(f"image {k}"), Image.open(sources[k]).convert("RGB")
        image.thumbnail((3200, 3200))
        for i in range(k * each, min(IMAGES, (k + 1) * each)):
            w, h = rng.choice([(500, 375), (500, 375), (500, 333), (375, 500), (500, 400), (640, 480)])
            s = rng.uniform(0.9, max(0.9, min(2.5, image.width / w, image.height / h)))
            cw, ch = min(image.width, int(w * s)), min(image.height, int(h * s))
            x, y = rng.randint(0, image.width - cw), rng.randint(0, image.height - ch)
            image.crop((x, y, x + cw, y + ch)).resize((w, h), Image.BICUBIC).save(f"{folder}/{i:05d}.jpg", quality=rng.choice([85, 90, 95]))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(cut, range(len(sources))))


def pdfs(folder):
    import pymupdf
    sources, count = unique("*.pdf", 2000), 0
    random.Random(0).shuffle(sources)
    for path in sources:
        with pymupdf.open(path) as document:
            if 1 <= len(document) <= 100 and sum(len(page.get_text()) for page in document) >= 500:
                with open(f"{folder}/{count:04d}.pdf", "wb") as out:
                    out.write(open(path, "rb").read())
                count += 1
        if count == PDFS:
            return


def audio(folder):
    def clip(i):
        rng = random.Random(f"clip {i}")
        text = " ".join(rng.choice(WORDS) for _ in range(rng.randint(12, 32)))
        end, rate = ["mp3", "flac", "wav"][i % 3], [44100, 48000, 22050, 16000][i // 3 % 4]
        spoken = f"{HOME}/speech{i}.wav"
        subprocess.run(["espeak-ng", "-v", rng.choice(["en-us", "en-gb"]), "-s", str(rng.randint(130, 170)), "-w", spoken, text], check=True)
        codec = {"mp3": ["-b:a", "64k"], "flac": [], "wav": ["-c:a", "pcm_s16le"]}[end]
        subprocess.run(["ffmpeg", "-y", "-v", "error", "-i", spoken, "-t", "15", "-ac", "1", "-ar", str(rate), *codec, "-map_metadata", "-1", f"{folder}/{i:04d}.{end}"], check=True)
        os.unlink(spoken)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(clip, range(CLIPS)))


def video(folder):
    sources = unique("*.jp*g", 200_000)
    random.Random(7).shuffle(sources)
    for i in range(VIDEOS):
        pair = [sources[(2 * i + k) % len(sources)] for k in (0, 1)]
        move = [f"[{k}:v]scale=1920:1080:force_original_aspect_ratio=increase,crop=1920:1080,zoompan=z='1+0.0015*on':x='iw/2-(iw/zoom/2)+{1 if k else -1}*on'"
                f":y='ih/2-(ih/zoom/2)':d=250:s=1280x720:fps=25,setsar=1[v{k}]" for k in (0, 1)]
        subprocess.run(["ffmpeg", "-y", "-v", "error", "-i", pair[0], "-i", pair[1], "-filter_complex", f"{move[0]};{move[1]};[v0][v1]concat=n=2:v=1:a=0,format=yuv420p[o]",
                        "-map", "[o]", "-t", "20", "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-g", "50", "-map_metadata", "-1", f"{folder}/{i:03d}.mp4"], check=True)


def calibrate(models, data):
    """Sets the last biases so that labels differ from picture to picture and a handful of boxes a frame pass the threshold, some
    of them by far: random weights alone would put them all at one score, where rounding decides."""
    import onnxruntime
    import work
    paths = sorted(glob.glob(f"{data}/image/*"))[:48]
    session = onnxruntime.InferenceSession(f"{models}/image/onnx/model.onnx", providers=["CPUExecutionProvider"])
    logits = session.run(None, {"pixel_values": np.stack([work.picture(work.decode_rgb(open(p, "rb").read())) for p in paths])})[0]
    graphs.classifier(f"{models}/image", -logits.mean(0))
    session = onnxruntime.InferenceSession(f"{models}/video/onnx/model.onnx", providers=["CPUExecutionProvider"])
    frames = [f for i, f in work.frames(sorted(glob.glob(f"{data}/video/*"))[0]) if i % 100 == 0]
    score = np.stack([session.run(None, {"images": work.frame_tensor([f])})[0][0, 4:].max(0) for f in frames])
    logit = np.log(score / (1 - score)) + 8.0
    least, high = np.quantile(logit, 0.999), logit.max()
    gain = float(3 / max(high - least, 1e-6))
    graphs.detector(f"{models}/video", float(np.log(0.25 / 0.75) - gain * least), gain)


def main():
    data, models = f"{HOME}/data", f"{HOME}/models"
    packages()
    for name, make, count in (("image", images, IMAGES), ("document", pdfs, PDFS), ("audio", audio, CLIPS), ("video", video, VIDEOS)):
        folder = f"{data}/{name}"
        if len(glob.glob(f"{folder}/*")) < count:
            os.makedirs(folder, exist_ok=True)
            make(folder)
            print(f"{name}: {len(os.listdir(folder))} files")
    graphs.texts(models, MINILM)
    if not os.path.exists(f"{models}/done"):
        for kind, trivial, name in ((graphs.classifier, graphs.trivial_classifier, "image"), (graphs.detector, graphs.trivial_detector, "video"), (graphs.speech, graphs.trivial_speech, "audio")):
            kind(f"{models}/model/{name}")
            trivial(f"{models}/trivial/{name}")
        calibrate(f"{models}/model", data)
        open(f"{models}/done", "w").close()


if __name__ == "__main__":
    main()
