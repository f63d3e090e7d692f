"""Makes tests/golden/image: small inputs and what the reference libraries make of them.

Run: python3 -m venv V && V/bin/pip install "pillow<13" imagehash numpy torch torchvision && V/bin/python scripts/golden/image.py
Pillow 13 resizes some pictures vertically first, which moves values by one; torch and torchvision may be missing, then the resize section of an existing golden.json is kept.
"""
import io, json, hashlib, pathlib, struct, zlib
import numpy as np, imagehash
from PIL import Image, ImageOps

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "image"
OUT.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(7)


def scene(w, h):
    """Gradients, edges and noise: something that filters and transforms have to work on."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    r = 255 * x / max(w - 1, 1)
    g = 127 + 120 * np.sin(y / 5.0 + x / 11.0)
    b = np.where((x - w * 0.6) ** 2 + (y - h * 0.4) ** 2 < (min(w, h) * 0.3) ** 2, 230, 40)
    rgb = np.stack([r, g, b], axis=2) + rng.normal(0, 12, (h, w, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8)


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def exif(orientation):
    e = Image.Exif()
    e[0x0112] = orientation
    return e.tobytes()


def write_inputs():
    a = scene(97, 61)
    rgb = Image.fromarray(a)
    alpha = np.dstack([a, np.tile(np.linspace(0, 255, 97).astype(np.uint8), (61, 1))])
    rgba = Image.fromarray(alpha)
    rgb.save(OUT / "baseline.jpg", quality=88, subsampling=2)
    rgb.save(OUT / "full.jpg", quality=95, subsampling=0)
    rgb.save(OUT / "s422.jpg", quality=80, subsampling=1)
    rgb.save(OUT / "progressive.jpg", quality=80, progressive=True)
    rgb.convert("L").save(OUT / "grey.jpg", quality=90)
    rgb.convert("CMYK").save(OUT / "cmyk.jpg", quality=90)
    for o in range(1, 9):
        rgb.resize((24, 16)).save(OUT / f"orient{o}.jpg", quality=90, exif=exif(o))
    rgb.save(OUT / "rgb.png")
    rgba.save(OUT / "rgba.png")
    rgb.convert("L").save(OUT / "grey.png")
    rgba.convert("LA").save(OUT / "la.png")
    rgb.convert("1").save(OUT / "bit.png")
    rgb.quantize(32).save(OUT / "palette.png")
    deep = (a[:, :, 0].astype(np.uint16) << 8) | a[:, :, 1]
    Image.fromarray(deep).save(OUT / "grey16.png")
    rgb.save(OUT / "exif.png", exif=exif(6))
    rgb.save(OUT / "lossless.webp", lossless=True)
    rgba.save(OUT / "alpha.webp", lossless=True, exact=True)
    rgb.save(OUT / "lossy.webp", quality=80)
    rgb.save(OUT / "exif.webp", lossless=True, exif=exif(8))
    frames = [Image.fromarray(scene(40, 30)).quantize(16) for _ in range(3)]
    frames[0].save(OUT / "anim.gif", save_all=True, append_images=frames[1:], duration=80, loop=0)
    frames[0].save(OUT / "still.gif")
    wf = [Image.fromarray(scene(40, 30)) for _ in range(3)]
    wf[0].save(OUT / "anim.webp", save_all=True, append_images=wf[1:], lossless=True, duration=80)
    wf[0].save(OUT / "anim.png", save_all=True, append_images=wf[1:], duration=80)
    rgb.save(OUT / "rgb.bmp")
    rgb.quantize(16).save(OUT / "palette.bmp")
    rgb.save(OUT / "raw.tiff")
    rgb.save(OUT / "lzw.tiff", compression="tiff_lzw")
    rgb.save(OUT / "deflate.tiff", compression="tiff_adobe_deflate")
    rgb.convert("L").save(OUT / "grey.tiff")
    frames2 = [Image.fromarray(scene(20, 10)) for _ in range(4)]
    frames2[0].save(OUT / "pages.tiff", save_all=True, append_images=frames2[1:])
    # Flat backgrounds: hashes compare values that differ by rounding alone.
    for n, boxes in enumerate([[(20, 30, 90, 60)], [(5, 5, 40, 50), (60, 80, 130, 100), (100, 20, 140, 35)], []]):
        page = np.full((120, 150, 3), 255, np.uint8)
        for i, (x1, y1, x2, y2) in enumerate(boxes):
            page[y1:y2, x1:x2] = (40 * i, 90, 200 - 60 * i)
        Image.fromarray(page).save(OUT / f"page{n}.png", optimize=True)
    # Header-only bombs: a JPEG and a PNG that claim to be huge.
    data = bytearray((OUT / "baseline.jpg").read_bytes())
    at = data.index(b"\xff\xc0")
    data[at + 5:at + 9] = struct.pack(">HH", 65000, 65000)
    (OUT / "bomb.jpg").write_bytes(data)
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 1, 0, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(bytes(2000))) + chunk(b"IEND", b"")
    (OUT / "bomb.png").write_bytes(png)


def decode_entry(path):
    im = Image.open(path)
    entry = {"file": path.name, "width": im.width, "height": im.height, "mode": im.mode, "format": im.format.lower(),
             "frames": getattr(im, "n_frames", 1)}
    entry["orientation"] = im.getexif().get(0x0112, 1)
    up = ImageOps.exif_transpose(im)
    entry["upright"] = [up.width, up.height]
    rgb = np.asarray(up.convert("RGB"))
    entry["rgb_sha256"] = sha(rgb)
    entry["rgb_mean"] = [float(v) for v in rgb.reshape(-1, 3).mean(0)]
    if im.mode not in ("I;16", "I"):
        entry["l_sha256"] = sha(np.asarray(up.convert("L")))
    return entry


def hash_entries():
    cases = []
    for name in ["baseline.jpg", "progressive.jpg", "rgb.png", "grey.jpg", "rgba.png", "palette.png", "lossy.webp", "orient1.jpg", "page0.png", "page1.png", "page2.png"]:
        im = Image.open(OUT / name)
        for size in (4, 8, 16):
            cases.append({"file": name, "size": size, "phash": str(imagehash.phash(im, size)), "dhash": str(imagehash.dhash(im, size)),
                          "ahash": str(imagehash.average_hash(im, size)), "whash": str(imagehash.whash(im, size))})
    return cases


def resize_entries():
    try:
        import torch
        from torchvision.transforms import v2
        from torchvision.transforms.v2 import InterpolationMode as M
    except ImportError:
        return None
    cases = []
    modes = {"triangle": M.BILINEAR, "catmullrom": M.BICUBIC}
    for name in ["rgb.png", "grey.png"]:
        im = Image.open(OUT / name)
        a = np.asarray(im)
        t = torch.from_numpy(a.copy())
        t = t[None] if t.ndim == 2 else t.permute(2, 0, 1).contiguous()
        back = lambda o: o[0].numpy() if o.shape[0] == 1 else o.permute(1, 2, 0).contiguous().numpy()
        for filt, mode in modes.items():
            for (w, h) in [(32, 32), (50, 40), (97, 30), (33, 61), (200, 150)]:
                out = v2.functional.resize(t, [h, w], interpolation=mode, antialias=True)
                cases.append({"file": name, "fit": "stretch", "filter": filt, "width": w, "height": h, "sha256": sha(back(out))})
            for side in (24, 31, 48, 61, 80):
                out = v2.Compose([v2.Resize(side, interpolation=mode, antialias=True), v2.CenterCrop(side)])(t)
                cases.append({"file": name, "fit": "cover", "filter": filt, "width": side, "height": side, "sha256": sha(back(out))})
    return cases


def pillow_resize_entries():
    cases = []
    filters = {"nearest": Image.NEAREST, "triangle": Image.BILINEAR, "catmullrom": Image.BICUBIC, "lanczos3": Image.LANCZOS}
    for name in ["rgb.png", "grey.png", "rgba.png"]:
        im = Image.open(OUT / name)
        for filt, f in filters.items():
            for (w, h) in [(9, 7), (150, 40)]:
                out = np.asarray(im.resize((w, h), f))
                cases.append({"file": name, "filter": filt, "width": w, "height": h, "pixels": out.flatten().tolist() if w == 9 else None,
                              "sum": int(out.astype(np.int64).sum())})
    return cases


def main():
    write_inputs()
    files = sorted(p for p in OUT.iterdir() if p.suffix != ".json" and not p.name.startswith("bomb"))
    golden = {"decode": [decode_entry(p) for p in files], "hash": hash_entries(), "pillow_resize": pillow_resize_entries()}
    target = OUT / "golden.json"
    golden["resize"] = resize_entries()
    if golden["resize"] is None:
        golden["resize"] = json.loads(target.read_text())["resize"] if target.exists() else []
    target.write_text(json.dumps(golden, indent=None, separators=(",", ":")).replace("},{", "},\n{") + "\n")


main()
