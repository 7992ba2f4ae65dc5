"""Whether a downloaded file is what its name says, from the first byte to the last."""

from __future__ import annotations

import gzip
import pickletools
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

_CHUNK = 1 << 20
_RATIO = 64  # weights hardly compress; what unpacks to more than this is no archive of weights
_PAGES = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<script")


def problem(path: Path, name: str) -> str | None:
    """What is wrong with the file at ``path``, whose name is ``name``, such as "is a web page"; None if nothing is.

    Archives and pickles are read to their end, so that a file that is cut short is found; nothing is unpacked or
    executed. Names of other kinds are only checked for web pages, which a network's login page sends for any address.
    """
    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        return "is empty"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGES):
        return "is a web page (the login page of a network?)"
    check = _check_of(name)
    return None if check is None else check(path, head)


def known(name: str) -> bool:
    """Whether :func:`problem` can tell if a file with this name is whole."""
    return _check_of(name) is not None


def _check_of(name: str) -> Callable[[Path, bytes], str | None] | None:
    return next((check for suffix, check in _CHECKS.items() if name.endswith(suffix)), None)


def _tar_gz(path: Path, head: bytes) -> str | None:
    if not head.startswith(b"\x1f\x8b"):
        return "is no .tar.gz archive"
    limit = _RATIO * path.stat().st_size + _CHUNK
    size, start = 0, b""
    try:
        with gzip.open(path) as file:
            while chunk := file.read(_CHUNK):
                start = start or chunk[:512]
                size += len(chunk)
                if size > limit:
                    return f"unpacks to more than {_RATIO} times its size"
    except EOFError:
        return "is cut short"
    except (OSError, zlib.error) as error:
        return f"is damaged ({error})"
    return None if start[257:262] == b"ustar" else "holds no tar archive"


def _torch_file(path: Path, head: bytes) -> str | None:
    if head.startswith(b"\x80"):  # the format before torch 1.6; it has no mark at its end
        return None
    if not head.startswith(b"PK"):
        return "is no file of torch.save"
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _RATIO * path.stat().st_size:
                return f"unpacks to more than {_RATIO} times its size"
            damaged = archive.testzip()
    except zipfile.BadZipFile:
        return "is cut short or damaged"
    except (EOFError, OSError, RuntimeError, ValueError, zlib.error) as error:
        return f"is damaged ({error})"
    return None if damaged is None else f"is damaged (in {damaged})"


def _pickle(path: Path, head: bytes) -> str | None:
    if not head.startswith(b"\x80"):
        return "is no pickle"
    try:
        with open(path, "rb") as file:
            for _ in pickletools.genops(file):  # reads the instructions, executes none
                pass
            return "holds more than one pickle" if file.read(1) else None
    except (ValueError, OverflowError, MemoryError) as error:
        return f"is cut short or damaged ({error})"


_CHECKS = {".tar.gz": _tar_gz, ".tgz": _tar_gz, ".pth": _torch_file, ".pt": _torch_file, ".pkl": _pickle}
