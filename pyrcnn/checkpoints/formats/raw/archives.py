"""Unpacks the checkpoint in a ``.tar.gz`` archive, under limits that a hostile archive cannot exceed."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ....errors import InputError
from ....texts import one_line

# Weights hardly shrink: the zoo's archives unpack to 1.1 times their size. A bomb of deflate reaches 1032 times.
MOST_RATIO, SLACK = 30, 16 << 20  # unpacked bytes, per byte of the archive; and for small archives
MOST_BYTES = 8 << 30  # the largest of the zoo unpacks to 1.5 GB
MOST_MEMBERS = 10_000  # the zoo's have 10
MOST_AT_ONCE = 4 << 20  # read in one call: files are copied in small pieces, so only a long header asks for more


class _Refused(Exception):
    """What an archive asks for beyond the limits, or what we do not unpack."""


class _Limited:
    """The unpacked bytes of a gzip file, of which no more can be had than the limits allow."""

    def __init__(self, stream: gzip.GzipFile, limit: int):
        self.stream, self.limit = stream, limit
        self.position, self.last = 0, b""

    def tell(self) -> int:
        """The position in the unpacked bytes."""
        return self.position

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes."""
        if not 0 <= size <= MOST_AT_ONCE:
            raise _Refused(f"a header of {size} bytes")
        if self.position + size > self.limit + MOST_AT_ONCE:
            raise _Refused(f"more than {self.limit} bytes, {MOST_RATIO} times its size")
        at = self.stream.tell()
        if size == 1 and self.last and self.position == at - 1:
            # tarfile reads the last byte of a file again; going back in gzip would unpack everything again
            self.position = at
            return self.last
        if self.position != at:
            self.stream.seek(self.position)
        found = self.stream.read(size)
        self.position += len(found)
        self.last = found[-1:]
        return found

    def seek(self, position: int) -> int:
        """Go to ``position``; the next read goes through what lies between."""
        if not 0 <= position <= self.limit:
            raise _Refused(f"more than {self.limit} bytes, {MOST_RATIO} times its size")
        self.position = position
        return position


@contextlib.contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """The checkpoint files of an archive in a temporary folder. Paths in the archive are ignored.

    Raises :class:`pyrcnn.InputError` naming the archive if it is damaged, exceeds a limit of this module, or holds
    several checkpoints. Links, devices and sparse members are not unpacked.
    """
    limit = min(MOST_RATIO * os.path.getsize(archive) + SLACK, MOST_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with gzip.open(archive) as stream:
                _unpack(_Limited(stream, limit), limit, Path(folder))
        except FileExistsError:
            raise InputError(f"source: {archive} holds several checkpoints: unpack it and name one") from None
        except _Refused as error:
            raise InputError(f"source: {archive} is not unpacked, because it asks for {error}") from None
        # tarfile raises some of these for headers that are damaged
        except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError, RecursionError) as error:
            reason = one_line(error)
            raise InputError(f"source: {archive} is truncated or no .tar.gz archive: {reason}") from None
        yield Path(folder)


def _unpack(stream: _Limited, limit: int, folder: Path) -> None:
    with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
        for count, member in enumerate(tar):
            if count == MOST_MEMBERS:
                raise _Refused(f"more than {MOST_MEMBERS} files")
            if not 0 <= member.size <= limit:
                raise _Refused(f"{member.size} bytes for {one_line(member.name, 100)}")
            path = PurePosixPath(member.name)
            wanted = path.suffix == ".index" or ".data-" in path.name
            # the zoo's archives also hold a SavedModel, whose variables/ is another bundle
            if not member.isfile() or not wanted or path.parent.name == "variables":
                continue
            if member.issparse():
                raise _Refused(f"the sparse file {one_line(member.name, 100)}")
            content = tar.extractfile(member)
            if content is None:
                raise tarfile.ReadError(f"{one_line(member.name, 100)} cannot be read")
            with open(folder / path.name, "xb") as target:
                shutil.copyfileobj(content, target)
    while stream.read(1 << 16):  # to the end, where the checksum is
        pass
