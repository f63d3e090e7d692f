#!/usr/bin/env python3
"""Prints the cases of src/infer/resample.rs: sums over what Pillow makes of noise, by filter and size.

Needs: pip install numpy pillow
Run:   python3 scripts/golden/resample.py
"""

import numpy as np
from PIL import Image

FILTERS = {"Nearest": 0, "Lanczos": 1, "Bilinear": 2, "Bicubic": 3, "Box": 4, "Hamming": 5}
SIZES = [((64, 64), (73, 73)), ((333, 257), (94, 73)), ((120, 90), (120, 73)), ((90, 140), (73, 140)), ((37, 53), (120, 200)), ((500, 375), (341, 256))]


def noise(width, height):
    i = np.arange(width * height * 3, dtype=np.uint64) * 2654435761 & 0xFFFFFFFF
    return (i >> 11).astype(np.uint8).reshape(height, width, 3)


def checksum(pixels):
    total = 17
    for byte in pixels.tobytes():
        total = (total * 31 + byte) & 0xFFFFFFFF
    return total


for name, number in FILTERS.items():
    for size, to in SIZES:
        print(f"            (Filter::{name}, {size}, {to}, {checksum(np.asarray(Image.fromarray(noise(*size)).resize(to, number)))}),")
