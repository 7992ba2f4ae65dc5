"""Image files made for tests: one per format and kind, and EXIF blocks of every sort."""

from __future__ import annotations

import functools
import io
import random
import struct
import warnings
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps, features

ORIENTATION = 0x0112
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)


def encode(format: str, image: Image.Image = IMAGE, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=format, **options)
    return stream.getvalue()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))


def png_with(*chunks: bytes, late: bool) -> bytes:
    """A PNG file with ``chunks`` before or behind its pixels."""
    content = encode("PNG")
    at = content.index(b"IEND") - 4 if late else 8 + 25  # behind the header
    return content[:at] + b"".join(chunks) + content[at:]


def jpeg_with(block: bytes) -> bytes:
    """A JPEG file with an EXIF ``block`` and no JFIF header, so that Pillow decodes the block on opening."""
    content = encode("JPEG")
    after_jfif = 4 + int.from_bytes(content[4:6], "big")
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[after_jfif:]


def oriented(orientation: int) -> dict[str, bytes]:
    """A file with an EXIF orientation in each format and place where Pillow looks for it."""
    block = exif(orientation).tobytes()
    tiff = block.removeprefix(b"Exif\0\0")
    xmp = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    text = b"Raw profile type exif\0" + f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    xmp_chunk = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    files = {
        "a.jpg": encode("JPEG", exif=block),
        "no_jfif.jpg": jpeg_with(block),
        "xmp.jpg": encode("JPEG", xmp=xmp),
        "a.mpo": encode("MPO", save_all=True, append_images=[IMAGE], exif=block),
        "a.png": encode("PNG", exif=block),
        "late.png": png_with(chunk(b"eXIf", tiff), late=True),
        "text.png": png_with(chunk(b"tEXt", text), late=False),
        "late_text.png": png_with(chunk(b"tEXt", text), late=True),
        "xmp.png": png_with(xmp_chunk, late=False),
        "late_xmp.png": png_with(xmp_chunk, late=True),
        "raw.tif": encode("TIFF", exif=exif(orientation)),
        "deflate.tif": encode("TIFF", exif=exif(orientation), compression="tiff_deflate"),
    }
    if features.check("webp"):
        files["a.webp"] = encode("WEBP", exif=block)
    if features.check("avif"):
        files["a.avif"] = encode("AVIF", exif=block)
    return files


@functools.cache
def one_of_each() -> dict[str, bytes]:
    """A file of each format that Pillow writes and reads without other libraries, and of some variants."""
    more = {"save_all": True, "append_images": [ImageOps.mirror(IMAGE)]}
    files = {
        **oriented(6),
        "progressive.jpg": encode("JPEG", progressive=True),
        "cmyk.jpg": encode("JPEG", IMAGE.convert("CMYK")),
        "palette.png": encode("PNG", IMAGE.convert("P"), transparency=3),
        "palette_alpha.png": encode("PNG", IMAGE.convert("P"), transparency=bytes(range(256))),
        "grey16.png": encode("PNG", Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)),
        "animated.png": encode("PNG", **more),
        "a.gif": encode("GIF"),
        "animated.gif": encode("GIF", **more),
        "lzw.tif": encode("TIFF", compression="tiff_lzw"),
        "group4.tif": encode("TIFF", IMAGE.convert("1"), compression="group4"),
        "pages.tif": encode("TIFF", **more),
    }
    for name in ("BMP", "PPM", "ICO", "TGA", "PCX", "SGI", "DDS", "DIB"):
        files[f"a.{name.lower()}"] = encode(name)
    if features.check("jpg_2000"):
        files["a.jp2"] = encode("JPEG2000")
        files["a.icns"] = encode("ICNS", IMAGE.resize((64, 64)))
    return files


def by_pillow(content: bytes) -> np.ndarray | None:
    """What Pillow makes of a file, upright and in RGB; None if it fails, or if the image is grey with over 8 bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                upright = ImageOps.exif_transpose(image)
                return None if upright.mode[0] in "IF" else np.asarray(upright.convert("RGB"))
        except Exception:
            return None


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The file cut off, with bytes missing, or with some bytes changed, more of them near its start."""
    kind, changed = rng.random(), bytearray(content)
    if kind < 0.3:
        return content[: rng.randrange(len(content))]
    if kind < 0.4:
        at = rng.randrange(len(content))
        del changed[at : at + rng.randint(1, 9)]
        return bytes(changed)
    for _ in range(rng.choice((1, 2, 5, 20))):
        at = rng.randrange(min(len(content), rng.choice((64, 300, len(content)))))
        changed[at] = rng.choice((0, 255, rng.randrange(256)))
    return bytes(changed)


def exif_block(rng: random.Random) -> bytes:
    """An EXIF block of a few entries with types, counts and places of any sort; some are cut off or overwritten."""
    order = rng.choice("<>")
    count = rng.randint(1, 6)
    tags = rng.sample([0x100, 0x10F, 0x110, 0x11A, 0x11B, 0x128, 0x131, 0x132, 0x2BC, 0x8769, 0x8825], count)
    if rng.random() < 0.8:
        tags[rng.randrange(count)] = ORIENTATION
    entries, behind, start = b"", b"", 8 + 2 + 12 * count + 4
    for tag in sorted(tags):
        kind, number = (
            rng.choice((0, *range(1, 14), 16, 99)),
            rng.choice((0, 1, 1, 1, 2, 3, 4, 9, 1000, 2**31, 2**32 - 1)),
        )
        value = rng.randint(0, 9)
        small = rng.choice((struct.pack(order + "HH", value, 0), struct.pack(order + "L", value),
                            struct.pack(order + "f", rng.choice((6.0, 6.5, float("nan"))))))  # fmt: skip
        if tag == ORIENTATION and rng.random() < 0.5:
            kind, number, small = 3, 1, struct.pack(order + "HH", rng.randint(0, 9), 0)
        elif rng.random() < 0.5:  # the place of a value behind the entries, or nonsense
            small = struct.pack(order + "L", rng.choice((start + len(behind), start + len(behind), 0, 300, 2**32 - 1)))
            behind += rng.choice((struct.pack(order + "LL", 12, 2), struct.pack(order + "LL", 6, 0),
                                  struct.pack(order + "d", 6.0), rng.randbytes(16)))  # fmt: skip
        entries += struct.pack(order + "HHL", tag, kind, number) + small
    magic = struct.pack(order + "2sH", {"<": b"II", ">": b"MM"}[order], 42)
    first = rng.choice((8, 8, 8, 8, rng.randint(0, 99)))
    block = magic + struct.pack(order + "LH", first, rng.choice((count, count, 60000))) + entries + b"\0\0\0\0" + behind
    if rng.random() < 0.3:
        block = damaged(block, rng)
    return rng.choice((b"Exif\0\0", b"Exif\0\0", b"", b"Exif\0\0Exif\0\0")) + block
