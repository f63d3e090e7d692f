#!/usr/bin/env python3
"""Writes tests/golden/audio/*: what soxr and FFmpeg make of the same sound.

Needs: ffmpeg; pip install numpy soxr
Run:   python3 scripts/golden/audio.py
resample.json   per pair of rates: 16-bit input and soxr HQ output (little-endian raw files beside it)
codecs.json     per file: rate, channels, frames and some samples as FFmpeg decodes them. The files are those of
                tests/fixtures/audio and of tests/golden/audio/files, which this script writes from tones.wav.
"""

import json
import pathlib
import subprocess

import numpy as np
import soxr

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "golden" / "audio"
FIXTURES = ROOT / "tests" / "fixtures" / "audio"
PAIRS = [(44100, 16000), (48000, 16000), (22050, 16000), (8000, 16000), (96000, 16000), (11025, 16000), (16000, 44100)]
EXTRA = {
    "noxing.mp3": ["-c:a", "libmp3lame", "-q:a", "5", "-write_xing", "0"],
    "low.mp3": ["-c:a", "libmp3lame", "-ar", "8000", "-ac", "1", "-b:a", "16k"],
    "aac.mkv": ["-c:a", "aac", "-b:a", "48k"],
    "adts.aac": ["-c:a", "aac", "-b:a", "48k"],
    "fragments.m4a": ["-c:a", "aac", "-b:a", "48k", "-movflags", "frag_keyframe+empty_moov"],
    "alac.m4a": ["-c:a", "alac", "-ac", "1"],
    "opus.webm": ["-c:a", "libopus", "-b:a", "24k"],
    "windows.wma": ["-c:a", "wmav2", "-b:a", "48k"],
    "alaw.wav": ["-c:a", "pcm_alaw", "-ar", "8000", "-ac", "1"],
    "ima.wav": ["-c:a", "adpcm_ima_wav", "-ac", "1"],
    "ms.wav": ["-c:a", "adpcm_ms", "-ac", "1"],
    "s24.wav": ["-c:a", "pcm_s24le", "-ac", "1", "-ar", "8000"],
    "float.wav": ["-c:a", "pcm_f32le", "-ac", "1", "-ar", "8000"],
    "u8.wav": ["-c:a", "pcm_u8", "-ac", "1"],
    "big.aiff": ["-c:a", "pcm_s16be", "-ac", "1"],
    "layer2.mp2": ["-c:a", "mp2", "-b:a", "64k"],
    "sun.au": ["-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1"],
}


def signal(rate, top, seconds=0.1):
    """A rising tone up to `top` hertz over two steady ones, as 16-bit integers."""
    t = np.arange(round(rate * seconds)) / rate
    sweep = np.sin(2 * np.pi * (60 * t + (top - 60) / (2 * seconds) * t * t))
    steady = 0.4 * np.sin(2 * np.pi * 0.11 * top * t) + 0.3 * np.sin(2 * np.pi * 0.53 * top * t + 1)
    return np.round(32767 * 0.5 * (sweep + steady) / 1.7).astype("<i2")


def resampling():
    cases = []
    for rate_in, rate_out in PAIRS:
        samples = signal(rate_in, 0.42 * min(rate_in, rate_out))
        result = soxr.resample(samples.astype(np.float64) / 32768, rate_in, rate_out, quality="HQ").astype("<f4")
        name = f"{rate_in}_{rate_out}"
        (OUT / f"{name}.in.i16").write_bytes(samples.tobytes())
        (OUT / f"{name}.out.f32").write_bytes(result.tobytes())
        cases.append({"rate_in": rate_in, "rate_out": rate_out, "name": name})
    (OUT / "resample.json").write_text(json.dumps(cases, indent=1) + "\n")


def write_files():
    folder = OUT / "files"
    folder.mkdir(exist_ok=True)
    exact = ["-t", "0.3", "-fflags", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1"]
    for name, coding in EXTRA.items():
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", FIXTURES / "tones.wav", *exact, *coding, folder / name], check=True)
    # What comes out of a pipe: the sizes in the header are unknown.
    piped = subprocess.run(["ffmpeg", "-v", "error", "-i", FIXTURES / "tones.wav", *exact, "-ac", "1", "-f", "wav", "-"], check=True, capture_output=True)
    (folder / "piped.wav").write_bytes(piped.stdout)


def probe(path):
    entries = ["-select_streams", "a:0", "-show_entries", "stream=sample_rate,channels", "-of", "csv=p=0"]
    text = subprocess.run(["ffprobe", "-v", "error", *entries, path], check=True, capture_output=True, text=True).stdout
    rate, channels = text.strip().split(",")[:2]
    return int(rate), int(channels)


def decode(path, channels):
    command = ["ffmpeg", "-v", "quiet", "-i", path, "-map", "0:a:0", "-f", "f32le", "-c:a", "pcm_f32le", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(raw, "<f4").reshape(-1, channels)


def codecs():
    cases = []
    paths = [path for path in sorted(FIXTURES.iterdir()) if not path.stem.startswith(("noise", "truncated"))]
    for path in paths + sorted((OUT / "files").iterdir()):
        rate, channels = probe(path)
        samples = decode(path, channels)
        at = [int(i) for i in np.linspace(0, len(samples) - 1, 24)]
        cases.append({
            "file": str(path.relative_to(ROOT / "tests")),
            "rate": rate,
            "channels": channels,
            "frames": len(samples),
            "at": at,
            "samples": [[round(float(v), 6) for v in samples[i]] for i in at],
        })
    (OUT / "codecs.json").write_text(json.dumps(cases) + "\n")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    resampling()
    write_files()
    codecs()


if __name__ == "__main__":
    main()
