"""Tells whether the header of an image file says all that must be known, or the file must be decoded.

A header is believed if the file is complete by its own account: its chunks, strips or boxes lie inside the file, or its
end mark is there. Files that only look incomplete are then decoded, so no readable file is refused.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from typing import IO

from PIL import Image

_LATE = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0", b"exif\0")  # PNG's texts that may hold an orientation
_TAIL = 2**18  # bytes of a PNG file in which its last chunks are looked for
_STRIPS = ((273, 279), (324, 325))  # TIFF's tags: offsets and lengths of strips, and of tiles


def suffices(image: Image.Image, file: IO[bytes], whole: bool = True) -> bool:
    """Return whether the header of ``image``, just opened from ``file``, is enough to know its size and orientation.

    False if its size or orientation may only be known after decoding or, with ``whole``, if the file looks cut off.
    """
    rule = _RULES.get(image.format or "")
    if rule is None:
        return False
    if not whole and rule is not _png:  # the other rules only look for the end of the file
        return True
    position, length = file.tell(), os.fstat(file.fileno()).st_size
    try:
        return rule(image, file, length)
    except Exception:  # numbers that make no sense
        return False
    finally:
        file.seek(position)


def _png(image: Image.Image, file: IO[bytes], length: int) -> bool:
    start = max(length - _TAIL, 0)
    file.seek(start)
    tail = file.read()
    for found in re.finditer(b"IDAT", tail):  # thousands of chunks may stand before the last ones
        known = _png_from(lambda at, size: tail[at : at + size], found.start() - 4)
        if known is not None:
            return known

    def read(at: int, size: int) -> bytes:
        file.seek(at)
        return file.read(size)

    return _png_from(read, 8) or False


def _png_from(read: Callable[[int, int], bytes], at: int) -> bool | None:
    """Return whether no metadata stand behind the pixels; None if the chunks from ``at`` on do not lead to the end."""
    pixels = False
    while len(head := read(at, 8)) == 8:
        size, name = struct.unpack(">L4s", head)
        if name == b"IEND":
            return pixels
        late = name == b"eXIf" or (name in (b"tEXt", b"zTXt", b"iTXt") and read(at + 8, 32).startswith(_LATE))
        if pixels and late:
            return False
        pixels = pixels or name == b"IDAT"
        at += 12 + size
    return None


def _ends_with(mark: bytes) -> Callable[[Image.Image, IO[bytes], int], bool]:
    def whole(image: Image.Image, file: IO[bytes], length: int) -> bool:
        file.seek(max(length - 1024, 0))
        return file.read().rstrip(b"\0").endswith(mark)

    return whole


def _webp(image: Image.Image, file: IO[bytes], length: int) -> bool:
    file.seek(4)
    return 8 + struct.unpack("<L", file.read(4))[0] <= length


def _boxes(image: Image.Image, file: IO[bytes], length: int) -> bool:
    """AVIF is a row of boxes that fills the file."""
    at = 0
    while at + 8 <= length:
        file.seek(at)
        size, _, large = struct.unpack(">L4sQ", file.read(16).ljust(16, b"\0"))
        size = {0: length - at, 1: large}.get(size, size)
        if size < 8:
            return False
        at += size
    return at == length


def _raw(image: Image.Image, file: IO[bytes], length: int) -> bool:
    """Uncompressed pixels at stated places."""
    bits = {"1": 1, "L": 8, "P": 8, "RGB": 24, "RGBA": 32, "RGBX": 32, "CMYK": 32}[image.mode]
    for tile in image.tile:  # type: ignore[attr-defined]
        codec, (left, top, right, bottom), offset, arguments = tile
        if codec != "raw":
            return False
        stated = arguments[1] if isinstance(arguments, tuple) and len(arguments) > 1 else 0
        if offset + (stated or (right - left) * bits // 8) * (bottom - top) > length:
            return False
    return True


def _tiff(image: Image.Image, file: IO[bytes], length: int) -> bool:
    tags = image.tag_v2  # type: ignore[attr-defined]
    for places, sizes in _STRIPS:
        if places in tags and sizes in tags:
            both = (tags[t] if isinstance(tags[t], tuple) else (tags[t],) for t in (places, sizes))
            return all(place + size <= length for place, size in zip(*both, strict=True))
    return False


_RULES: dict[str, Callable[[Image.Image, IO[bytes], int], bool]] = {
    "JPEG": _ends_with(b"\xff\xd9"),
    "MPO": _ends_with(b"\xff\xd9"),
    "GIF": _ends_with(b";"),
    "PNG": _png,
    "WEBP": _webp,
    "AVIF": _boxes,
    "BMP": _raw,
    "PPM": _raw,
    "TIFF": _tiff,
}
