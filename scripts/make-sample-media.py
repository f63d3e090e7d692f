#!/usr/bin/env python3
"""Makes a folder of sample media: recordings, pictures, videos and documents whose content is known.

    python3 scripts/make-sample-media.py OUT [--count 100] [--broken 3] [--only audio,images,video,pdf] [--seed 1]

audio/*   speech in mp3, wav, ogg, flac and m4a: 2 to 6 words of the vocabulary of the tiny speech model
images/*  one shape or texture each, jpg and png, as the tiny classifier knows them
video/*   moving shapes, mp4 (with speech) and avi, as the tiny detector knows them
pdf/*     prose of 3 to 10 pages on fifteen topics
truth.tsv path, kind, and what is in the file: the words, the class, the classes, the topic; "broken: ..." for a bad file

--count N gives N recordings, N pictures, N/10 videos and 3N/10 documents. --broken P adds P % bad files of each kind:
truncated, empty, or something else under that name. The same arguments give the same content every time; the bytes may
differ with another version of ffmpeg or espeak-ng, which are all this needs beside Python.
"""

import argparse
import concurrent.futures
import html
import math
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import wave
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from sample_media_prose import TOPICS  # noqa: E402

WORDS = ("zero one two three four five six seven eight nine start stop pause play open close left right up down "
         "yes no red green blue hello goodbye river window table").split()
VOICES = ["en-us", "en-us+m1", "en-us+m3", "en-us+f1", "en-us+f2", "en", "en+m2", "en+f3", "en-gb-x-rp", "en-gb-x-rp+m4"]
SOUND = {"mp3": ["-c:a", "libmp3lame", "-b:a", "64k"], "wav": ["-c:a", "pcm_s16le"], "ogg": ["-c:a", "libvorbis", "-q:a", "4"],
         "flac": ["-c:a", "flac"], "m4a": ["-c:a", "aac", "-b:a", "64k"]}
SHAPES = ["circle", "square", "triangle", "star", "cross", "ring"]
CLASSES = SHAPES + ["stripes", "checkerboard", "dots", "gradient"]
COLORS = [(214, 40, 40), (44, 160, 70), (40, 80, 200), (240, 200, 40), (245, 130, 30), (130, 60, 170), (60, 190, 200),
          (240, 120, 170), (240, 240, 240), (25, 25, 25)]
EXACT = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1"]


def ffmpeg(arguments, data=None):
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments[:-1]), *EXACT, str(arguments[-1])]
    if data is not None:
        command.remove("-nostdin")
    subprocess.run(command, input=data, check=True)


# ---- speech ----------------------------------------------------------------------------------------------------------

def speak(rng, path):
    """Writes a mono WAV of a few words with some silence around; returns the words."""
    words = " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 6)))
    command = ["espeak-ng", "-v", rng.choice(VOICES), "-s", str(rng.randint(120, 180)), "-p", str(rng.randint(30, 70)),
               "-g", str(rng.choice([0, 2, 5])), "-w", str(path), words]
    subprocess.run(command, check=True)
    with wave.open(str(path), "rb") as speech:
        rate, frames = speech.getframerate(), speech.readframes(speech.getnframes())
    silence = [b"\0\0" * int(rate * rng.uniform(0.1, 0.6)) for _ in range(2)]
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(silence[0] + frames + silence[1])
    return words


def make_audio(out, seed, index):
    rng = random.Random(f"{seed} audio {index}")
    kind = list(SOUND)[index % len(SOUND)]
    name = f"audio/speech_{index:05}.{kind}"
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "speech.wav"
        words = speak(rng, source)
        ffmpeg(["-i", source, *SOUND[kind], out / name])
    return name, "audio", words


# ---- pictures --------------------------------------------------------------------------------------------------------

def jitter(rng, color, by=18):
    return tuple(max(0, min(255, v + rng.randint(-by, by))) for v in color)


def far(rng, color, least=150):
    """A colour that stands out from `color`."""
    while True:
        other = tuple(rng.randint(20, 235) for _ in range(3))
        if sum(abs(a - b) for a, b in zip(color, other)) >= least:
            return other


def background(rng, width, height, color):
    """Rows of a softly uneven, slightly noisy background."""
    swell, grain = rng.uniform(4, 20), rng.randint(1, 6)
    a, b, c, d = (rng.uniform(0, 2 * math.pi) for _ in range(4))
    noise = rng.randbytes(4096)
    rows = []
    for y in range(height):
        row = bytearray()
        base = math.sin(y / height * 5 + a) + math.sin(y / height * 9 + b)
        start = rng.randrange(4096)
        for x in range(width):
            lift = swell * (base + math.sin(x / width * 6 + c) + math.sin(x / width * 4 + y / height * 3 + d)) / 2
            lift += noise[(start + x) & 4095] % (2 * grain + 1) - grain
            row += bytes(max(0, min(255, int(v + lift))) for v in color)
        rows.append(row)
    return rows


def corners(kind, cx, cy, size, turn):
    """The corners of a polygonal shape whose outer radius is `size`."""
    if kind == "square":
        points = [(math.cos(math.pi / 4 + k * math.pi / 2), math.sin(math.pi / 4 + k * math.pi / 2)) for k in range(4)]
    elif kind == "triangle":
        points = [(math.cos(-math.pi / 2 + k * 2 * math.pi / 3), math.sin(-math.pi / 2 + k * 2 * math.pi / 3)) for k in range(3)]
    elif kind == "star":
        radii = [1 if k % 2 == 0 else 0.42 for k in range(10)]
        points = [(r * math.cos(-math.pi / 2 + k * math.pi / 5), r * math.sin(-math.pi / 2 + k * math.pi / 5)) for k, r in enumerate(radii)]
    else:
        t = 0.3
        points = [(-t, -1), (t, -1), (t, -t), (1, -t), (1, t), (t, t), (t, 1), (-t, 1), (-t, t), (-1, t), (-1, -t), (-t, -t)]
    c, s = math.cos(turn), math.sin(turn)
    return [(cx + size * (x * c - y * s), cy + size * (x * s + y * c)) for x, y in points]


def spans(kind, cx, cy, size, turn, y):
    """The stretches of the row at height `y` that lie inside the shape."""
    if kind in ("circle", "ring"):
        dy = y - cy
        if abs(dy) >= size:
            return []
        outer = math.sqrt(size * size - dy * dy)
        hole = size - max(3, int(size * 0.35))
        if kind == "ring" and abs(dy) < hole:
            inner = math.sqrt(hole * hole - dy * dy)
            return [(cx - outer, cx - inner), (cx + inner, cx + outer)]
        return [(cx - outer, cx + outer)]
    points, crossings = corners(kind, cx, cy, size, turn), []
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
        if (y0 <= y) != (y1 <= y):
            crossings.append(x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    crossings.sort()
    return list(zip(crossings[::2], crossings[1::2]))


def draw(rows, kind, cx, cy, size, turn, color):
    width, pixel = len(rows[0]) // 3, bytes(color)
    for y in range(max(0, int(cy - size) - 1), min(len(rows), int(cy + size) + 2)):
        for left, right in spans(kind, cx, cy, size, turn, y + 0.5):
            first, last = max(0, round(left)), min(width, round(right))
            if first < last:
                rows[y][first * 3:last * 3] = pixel * (last - first)


def texture(rng, kind, rows, color, other):
    width, height, small = len(rows[0]) // 3, len(rows), min(len(rows[0]) // 3, len(rows))
    turn = rng.uniform(0, 2 * math.pi)
    c, s = math.cos(turn), math.sin(turn)
    if kind == "dots":
        period = rng.uniform(13, 20) * small / 80
        radius, ox, oy = period * rng.uniform(0.22, 0.34), rng.uniform(0, period), rng.uniform(0, period)
        for i in range(-1, int(width / period) + 1):
            for j in range(-1, int(height / period) + 1):
                draw(rows, "circle", ox + i * period, oy + j * period, radius, 0, color)
        return
    period = (rng.randint(6, 14) if kind == "stripes" else rng.randint(7, 16)) * small / 80
    for y, row in enumerate(rows):
        for x in range(width):
            if kind == "gradient":
                t = max(0, min(1, ((x / width - 0.5) * c + (y / height - 0.5) * s) / 1.2 + 0.5))
                row[x * 3:x * 3 + 3] = bytes(int(t * a + (1 - t) * b) for a, b in zip(color, other))
            elif kind == "stripes":
                if math.sin((x * c + y * s) * math.pi / period) > 0:
                    row[x * 3:x * 3 + 3] = bytes(color)
            elif (int(x // period) + int(y // period)) % 2 == 0:
                row[x * 3:x * 3 + 3] = bytes(color)


def png(rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def make_image(out, seed, index):
    rng = random.Random(f"{seed} image {index}")
    kind = CLASSES[index % len(CLASSES)]
    width, height = rng.choice([(80, 80), (96, 96), (120, 90), (90, 140), (160, 160), (200, 150)])
    color = jitter(rng, rng.choice(COLORS))
    other = far(rng, color)
    rows = background(rng, width, height, other)
    small = min(width, height)
    if kind in SHAPES:
        cx, cy = (side / 2 + rng.uniform(-0.1, 0.1) * small for side in (width, height))
        draw(rows, kind, cx, cy, rng.uniform(0.22, 0.36) * small, rng.uniform(-0.35, 0.35), color)
    else:
        texture(rng, kind, rows, color, other)
    # Classes and endings are out of step, so that every class comes in both.
    if (index // len(CLASSES) + index) % 2:
        name = f"images/{kind}_{index:05}.png"
        (out / name).write_bytes(png(rows))
    else:
        name = f"images/{kind}_{index:05}.jpg"
        size = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", "-"]
        ffmpeg([*size, "-frames:v", "1", "-pix_fmt", "yuvj444p", "-q:v", "3", out / name], b"".join(map(bytes, rows)))
    return name, "image", kind


# ---- videos ----------------------------------------------------------------------------------------------------------

def make_video(out, seed, index):
    rng = random.Random(f"{seed} video {index}")
    width, height, fps, count = 320, 240, 10, rng.randint(30, 60)
    base = tuple(rng.randint(70, 185) for _ in range(3))
    still = background(rng, width, height, base)
    actors = []
    for lane in range(rng.randint(1, 4)):
        size = rng.uniform(0.09, 0.12) * height
        # One lane for each shape, so that none hides another.
        actors.append(dict(kind=rng.choice(SHAPES), size=size, color=far(rng, base), y=(lane + 0.5) * height / 4,
                           x=rng.uniform(size, width - size), speed=rng.choice([-1, 1]) * rng.uniform(1, 4), turn=rng.uniform(-0.3, 0.3)))
    frames = []
    for _ in range(count):
        rows = [bytearray(row) for row in still]
        for actor in actors:
            draw(rows, actor["kind"], actor["x"], actor["y"], actor["size"], actor["turn"], actor["color"])
            actor["x"] += actor["speed"]
            if not actor["size"] <= actor["x"] <= width - actor["size"]:
                actor["speed"] = -actor["speed"]
                actor["x"] += 2 * actor["speed"]
        frames.append(b"".join(rows))
    pictures = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", fps, "-i", "-"]
    truth = " ".join(sorted(actor["kind"] for actor in actors))
    if index % 2:
        name = f"video/shapes_{index:05}.avi"
        ffmpeg([*pictures, "-c:v", "mpeg4", "-q:v", "3", "-g", "12", "-threads", "1", out / name], b"".join(frames))
    else:
        name = f"video/shapes_{index:05}.mp4"
        with tempfile.TemporaryDirectory() as folder:
            speech = pathlib.Path(folder) / "speech.wav"
            speak(rng, speech)
            sound = ["-i", speech, "-af", "apad", "-shortest", "-c:a", "aac", "-b:a", "48k"]
            coding = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-g", "20", "-pix_fmt", "yuv420p", "-threads", "1"]
            ffmpeg([*pictures, *sound, *coding, out / name], b"".join(frames))
    return name, "video", truth


# ---- documents -------------------------------------------------------------------------------------------------------

def vary(rng, sentence):
    """Chooses one of each `{this|that}`."""
    while "{" in sentence:
        head, _, rest = sentence.partition("{")
        choices, _, tail = rest.partition("}")
        sentence = head + rng.choice(choices.split("|")) + tail
    return sentence


def wrap(text, columns=88):
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) + 1 > columns:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return lines + [line]


def pdf(title, pages):
    """A PDF 1.4 file: `pages` are lists of lines, in Helvetica."""
    objects = [b"", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
               b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>"]
    escaped = lambda line: line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
    kids = []
    for number, (heading, lines) in enumerate(pages):
        text = [f"BT /F2 15 Tf 64 780 Td ({escaped(heading)}) Tj ET", "BT /F1 11 Tf 15 TL 64 748 Td"]
        text += [f"({escaped(line)}) Tj T*" for line in lines]
        text += ["ET", f"BT /F1 9 Tf 290 30 Td ({number + 1}) Tj ET"]
        stream = zlib.compress("\n".join(text).encode("cp1252"))
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(stream) + stream + b"\nendstream")
        resources = "<< /Font << /F1 3 0 R /F2 4 0 R >> >>"
        kids.append(len(objects) + 1)
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources {resources} /Contents {len(objects)} 0 R >>".encode())
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R >>"
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>".encode()
    objects.append(f"<< /Title ({escaped(title)}) /Producer (sample media) >>".encode("cp1252"))
    out, offsets = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(objects), start)
    return bytes(out)


def make_pdf(out, seed, index):
    rng = random.Random(f"{seed} pdf {index}")
    topic = list(TOPICS)[index % len(TOPICS)]
    headings, sentences = TOPICS[topic]
    pages, left = [], []
    for number in range(rng.randint(3, 10)):
        lines = []
        for _ in range(rng.randint(4, 6)):
            paragraph = []
            for _ in range(rng.randint(3, 5)):
                # Every sentence comes once before one comes again.
                left = left or rng.sample(sentences, len(sentences))
                paragraph.append(vary(rng, left.pop()))
            lines += wrap(" ".join(paragraph)) + [""]
        pages.append((headings[number % len(headings)], lines[:46]))
    name = f"pdf/{topic.replace(' ', '_')}_{index:05}.pdf"
    (out / name).write_bytes(pdf(f"Notes on {topic}", pages))
    return name, "pdf", topic


# ---- bad files -------------------------------------------------------------------------------------------------------

def make_broken(out, folder, good, index):
    """A bad file next to the good one of the same ending that cannot be opened: cut, empty, or another thing altogether."""
    # A recording that is cut still plays as far as it goes, so that is no bad file.
    ways = ["wrong content", "empty"] if folder == "audio" else ["truncated", "empty", "wrong content"]
    way = ways[index % len(ways)]
    source = pathlib.Path(good)
    name = f"{folder}/broken_{index:05}{source.suffix}"
    data = (out / source).read_bytes()
    if way == "truncated":
        # So short that nothing can be repaired: readers of PDF put together whatever pages they find.
        data = data[:48]
    elif way == "empty":
        data = b""
    else:
        page = html.escape(f"The object {name} does not exist.")
        data = f"<!DOCTYPE html><html><head><title>404</title></head><body><h1>Not found</h1><p>{page}</p></body></html>\n".encode() * 20
    (out / name).write_bytes(data)
    return name, folder.rstrip("s"), f"broken: {way}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--broken", type=float, default=0, metavar="PERCENT")
    parser.add_argument("--only", default="audio,images,video,pdf")
    parser.add_argument("--seed", default="1")
    arguments = parser.parse_args()
    share = {"audio": (make_audio, 1.0), "images": (make_image, 1.0), "video": (make_video, 0.1), "pdf": (make_pdf, 0.3)}
    rows = []
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for folder in arguments.only.split(","):
            make, part = share[folder]
            (arguments.out / folder).mkdir(parents=True, exist_ok=True)
            count = max(1, round(arguments.count * part))
            jobs = [pool.submit(make, arguments.out, arguments.seed, index) for index in range(count)]
            good = [job.result() for job in jobs]
            bad = math.ceil(count * arguments.broken / 100) if arguments.broken > 0 else 0
            rows += good + [make_broken(arguments.out, folder, good[i % count][0], i) for i in range(bad)]
    with open(arguments.out / "truth.tsv", "w", encoding="utf-8") as truth:
        truth.write("path\tkind\ttruth\n")
        truth.writelines("\t".join(row) + "\n" for row in sorted(rows))
    print(f"{len(rows)} files in {arguments.out}")


if __name__ == "__main__":
    main()
