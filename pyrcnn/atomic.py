"""Files that are either complete or absent: written under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError


@contextlib.contextmanager
def replacing(path: str | Path, *, flush: bool = True) -> Iterator[Path]:
    """``with replacing(path) as temporary:`` write ``temporary``; when the block ends it is renamed to ``path``.

    If the process stops, ``path`` holds its old content or all of the new content. With ``flush`` that is also true
    if the machine stops. An error inside the block leaves ``path`` alone. A missing folder is created.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"path: the folder {path.parent} cannot be created: {error.strerror}") from None
    # The process id separates two writers. The suffix stays last because some writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        if flush:
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"path: {path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    if not flush:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # makes the rename permanent
    finally:
        os.close(folder)
