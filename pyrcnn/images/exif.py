"""Finds the orientation of an image in its metadata, and nothing else.

Pillow's own EXIF reader decodes every entry, so one odd entry hides the orientation or raises an error. This one
decodes the orientation alone and survives any block. Where Pillow's reader gives an orientation, this one gives the
same.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from PIL import Image

TRANSPOSED = frozenset({5, 6, 7, 8})  # the orientations that swap height and width
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # how to turn an image of each orientation upright

_ORIENTATION = 0x0112
# TIFF's types: bytes per value, and struct's letters of those that hold numbers.
_TYPES = {1: (1, ""), 2: (1, ""), 3: (2, "H"), 4: (4, "L"), 5: (8, "LL"), 6: (1, "b"), 7: (1, ""), 8: (2, "h"),
          9: (4, "l"), 10: (8, "ll"), 11: (4, "f"), 12: (8, "d"), 13: (4, "L"), 16: (8, "Q")}  # fmt: skip
_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">", b"MM*\x00": ">", b"II\x00*": "<", b"MM\x00+": ">"}  # Pillow's list
_IN_XMP = r'tiff:Orientation(?:="|>)([0-9])'


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of ``image``, 1 to 8; 1 if its metadata state none or none that is valid.

    It is looked for where Pillow does: in the EXIF block, ImageMagick's text form of it, a TIFF file's own tags, XMP.
    """
    found = _in_metadata(image)
    return found if found is not None and found in UPRIGHT else 1


def _in_metadata(image: Image.Image) -> int | None:
    block = image.info.get("exif")
    if block is None:
        block = _from_text(image.info.get("Raw profile type exif"))
    found = None
    if block is not None:
        found = in_block(block) if isinstance(block, bytes) else None
    elif hasattr(image, "tag_v2"):
        found = _in_tags(image.tag_v2)
    return _in_xmp(image.info) if found is None else found


def in_block(block: bytes) -> int | None:
    """Return the orientation in an EXIF ``block``: 0 if it is no whole number, None if there is none.

    >>> in_block(b"II*\\x00\\x08\\x00\\x00\\x00\\x01\\x00\\x12\\x01\\x03\\x00\\x01\\x00\\x00\\x00\\x06\\x00\\x00\\x00")
    6
    """
    block = re.sub(b"^(Exif\x00\x00){1,2}", b"", block)
    order = _ORDERS.get(block[:4])
    if order is None or len(block) < 8:
        return None
    (start,) = struct.unpack_from(order + "L", block, 4)
    entries = block[start + 2 :]
    if len(block) < start + 2:
        return None
    (count,) = struct.unpack_from(order + "H", block, start)
    outside = 0  # bytes of values outside the entries
    for entry in range(min(count, len(entries) // 12)):
        tag, kind, values, place = struct.unpack_from(order + "HHLL", entries, 12 * entry)
        if kind not in _TYPES or not values:
            continue
        size = values * _TYPES[kind][0]
        at = start + 2 + 12 * entry + 8
        if size > 4:
            outside += size
            if outside > len(block):
                continue
            at = place
            if at + size > len(block):
                return None  # Pillow ignores the entries behind one that is cut off
        if tag == _ORIENTATION:
            return _value(block, at, order, _TYPES[kind][1])
    return None


def _value(block: bytes, at: int, order: str, letters: str) -> int:
    if not letters:
        return 0
    value, *rest = struct.unpack_from(order + letters, block, at)
    if rest:  # a fraction
        value = value / rest[0] if rest[0] else 0
    return int(value) if value == value // 1 else 0


def _from_text(text: Any) -> bytes | None:
    """Return the EXIF block that ImageMagick writes into PNG files: three lines, then hexadecimal digits."""
    if not isinstance(text, str):
        return None
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


def _in_tags(tags: Any) -> int | None:
    try:
        value = tags.get(_ORIENTATION)
        return None if value is None else int(value) if value == int(value) else 0
    except Exception:  # Pillow decodes the tag only now
        return 0


def _in_xmp(info: dict[Any, Any]) -> int | None:
    text = info.get("XML:com.adobe.xmp") or info.get("xmp")
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    found = re.search(_IN_XMP, text) if isinstance(text, str) else None
    return int(found[1]) if found else None
