#!/usr/bin/env python3
"""Writes tests/golden/video/*: the frames of the clips in tests/fixtures/video as FFmpeg decodes them.

Needs: ffmpeg; no Python package.
Run:   python3 scripts/golden/video.py
frames.json   per clip: time and key flag of every frame, upright size, and which frames are kept as raw RGB beside it,
              in full and scaled to 40x30
"""

import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "golden" / "video"
FIXTURES = ROOT / "tests" / "fixtures" / "video"
CLIPS = ["square.mp4", "square.avi", "square.webm", "turned.mp4"]
KEPT = [17]


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True).stdout


def frames(path):
    shown = run("ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time,key_frame", "-of", "json", path)
    listed = [(float(f["best_effort_timestamp_time"]), bool(f["key_frame"])) for f in json.loads(shown)["frames"]]
    start = listed[0][0]
    return [[round(time - start, 6), key] for time, key in listed]


def raw(path, extra):
    chain = f"select='{'+'.join(f'eq(n,{n})' for n in KEPT)}'" + extra
    return run("ffmpeg", "-v", "error", "-i", path, "-vf", chain, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    clips = []
    for name in CLIPS:
        path = FIXTURES / name
        (OUT / f"{name}.full.rgb").write_bytes(raw(path, ""))
        (OUT / f"{name}.small.rgb").write_bytes(raw(path, ",scale=40:30:flags=bilinear"))
        upright = (48, 64) if name == "turned.mp4" else (64, 48)
        clips.append({"file": name, "width": upright[0], "height": upright[1], "kept": KEPT, "frames": frames(path)})
    (OUT / "frames.json").write_text(json.dumps(clips) + "\n")


if __name__ == "__main__":
    main()
