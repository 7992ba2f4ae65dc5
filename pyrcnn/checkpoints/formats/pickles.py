"""Reads files that PyTorch or Python pickled (``.pth``, ``.pkl``) without executing code in them."""

from __future__ import annotations

import io
import mmap
import os
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import InputError
from ...texts import listed, one_line
from .raw import arrays, torch_tensors, zip_records
from .raw.containers import CONTAINERS, Entry, entries_of
from .raw.torch_tensors import Storage
from .raw.unpickling import Machine, Placeholder, StandIns, Unreadable

ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # first bytes of PyTorch's archives and of binary pickles
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # first bytes of files of PyTorch before 1.6
# What a damaged or hostile file makes its reader raise
DAMAGE = (
    ValueError, TypeError, LookupError, AttributeError, RuntimeError, EOFError, OverflowError, MemoryError, OSError,
    Unreadable,
)  # fmt: skip


def matches(source: Any) -> bool:
    """Whether ``source`` is a file with the first bytes of a PyTorch archive or a pickle."""
    return isinstance(source, str | os.PathLike) and os.path.isfile(source) and _head(source).startswith((ZIP, PICKLE))


def entries(file: str | os.PathLike[str]) -> list[Entry]:
    """The tensors and arrays in ``file``, wherever they are in it; ``Entry.value.resolve()`` reads one.

    Other objects become placeholders: nothing is imported or called for them. Raises :class:`pyrcnn.InputError` naming
    the file if it is damaged or holds no tensors.
    """
    path = Path(file)
    try:
        return _entries(path)
    except DAMAGE as error:
        raise damaged(path, error) from None


def damaged(path: str | os.PathLike[str], error: BaseException) -> InputError:
    """The error for a file whose reading raised ``error``."""
    reason = one_line(error) or type(error).__name__
    return InputError(f"source: {path} is damaged or holds more than weights: {reason}")


def read(file: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The dict of ``file`` that has the most tensors, by name (see :func:`entries`)."""
    found = entries(file)
    homes = Counter(entry.home for entry in found)
    home = max(homes, key=homes.__getitem__)
    try:
        return {entry.key: entry.value.resolve() for entry in found if entry.home == home}
    except DAMAGE as error:
        raise damaged(file, error) from None


def _entries(path: Path) -> list[Entry]:
    with open(path, "rb") as stream:
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)  # stays readable as long as a tensor uses it
    if data[: len(ZIP)] == ZIP:
        content, names = _zipped(data)
    elif data[: len(LEGACY)] == LEGACY:
        content, names = _legacy(data)
    else:
        machine = Machine(data, _stand_ins(len(data)))
        content, names = machine.load(), list(machine.names)
    found = entries_of(content)
    if not found:
        if "torch.storage._load_from_bytes" in names:
            raise Unreadable("it holds tensors that pickle wrote, not torch.save: save it again with torch.save")
        raise Unreadable("it holds no named tensors" + (f", but {listed(names)}" if names else ""))
    return found


def _head(file: str | os.PathLike[str]) -> bytes:
    with open(file, "rb") as stream:
        return stream.read(len(LEGACY))


def _is_key(value: Any) -> bool:
    """Whether ``value`` can name a storage: a short text or number."""
    return (isinstance(value, str) and len(value) < 100) or (type(value) is int and value.bit_length() <= 64)


class _Storages:
    """Makes the storages that the pickles of a file refer to, one per key."""

    def __init__(self, data: mmap.mmap, place: torch_tensors.Place, big: bool = False):
        self.data, self.place, self.big = data, place, big
        self.by_key: dict[str, Storage] = {}

    def find(self, identity: Any) -> Any:
        """The object of a persistent id: ("storage", type, key, device, elements[, part])."""
        kind, *parts = identity if isinstance(identity, tuple) and identity else ("",)
        if kind == "module" and parts:  # a class with its source code
            return parts[0]
        dtype = torch_tensors.storage_type(parts[0]) if len(parts) > 1 else None
        if kind != "storage" or dtype is None or not _is_key(parts[1]):
            return Placeholder("a storage")
        key = str(parts[1])
        storage = self.by_key.setdefault(key, Storage(self.data, self.place, dtype, key, self.big))
        view = parts[4] if len(parts) > 4 else None
        if isinstance(view, tuple) and len(view) == 3 and type(view[1]) is int and view[1] >= 0:
            return storage.part(view[1])
        return storage


def _zipped(data: mmap.mmap) -> tuple[Any, list[str]]:
    """The content of PyTorch's archive, and the names of what is no tensor in it."""
    records = zip_records.records(data)
    folders = [name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise Unreadable(f"it is an archive with {len(folders)} of PyTorch's data.pkl")
    folder = folders[0]
    if f"{folder}constants.pkl" in records:
        raise Unreadable("it is a TorchScript program, which holds code: save model.state_dict() with torch.save")

    def bytes_of(name: str) -> bytes:
        record = records[name]
        begin = zip_records.locate(data, record)
        return data[begin : begin + record.size]

    def place(key: str, width: int) -> tuple[int, int, int]:
        record = records.get(f"{folder}data/{key}")
        if record is None:
            raise Unreadable(f"the data of storage {one_line(key)} are missing")
        return zip_records.locate(data, record), record.size, record.crc

    order = f"{folder}byteorder"
    storages = _Storages(data, place, order in records and bytes_of(order) == b"big")
    program = bytes_of(f"{folder}data.pkl")
    if records[f"{folder}data.pkl"].crc not in (0, zlib.crc32(program)):
        raise Unreadable("the checksum of data.pkl does not match")
    machine = Machine(io.BytesIO(program), _stand_ins(len(data)), storages.find)
    return machine.load(), list(machine.names)


def _legacy(data: mmap.mmap) -> tuple[Any, list[str]]:
    """The same for files of PyTorch before 1.6: pickles, then each storage as a count and its elements."""
    places: dict[str, tuple[int, int, int]] = {}

    def place(key: str, width: int) -> tuple[int, int, int]:
        if key not in places:
            raise Unreadable(f"the data of storage {one_line(key)} are missing")
        return places[key]

    storages = _Storages(data, place)
    machine = Machine(data, _stand_ins(len(data)), storages.find)
    for _ in range(3):  # magic number, version, platform
        machine.load()
    content, keys = machine.load(), machine.load()
    at = data.tell()
    if not isinstance(keys, list) or not all(map(_is_key, keys)):
        raise Unreadable("its list of storages is damaged")
    for key in map(str, keys):
        if at + 8 > len(data):
            raise Unreadable("it is truncated")
        count = int.from_bytes(data[at : at + 8], "little", signed=True)
        if key not in storages.by_key:
            raise Unreadable(f"storage {one_line(key)} belongs to no tensor")
        size = count * storages.by_key[key].dtype.itemsize
        if size < 0 or at + 8 + size > len(data):
            raise Unreadable(f"the data of storage {one_line(key)} run past the end")
        places[key] = at + 8, size, 0
        at += 8 + size
    return content, list(machine.names)


def _stand_ins(size: int) -> StandIns:
    return {**arrays.stand_ins(size), **torch_tensors.stand_ins(), **CONTAINERS}
