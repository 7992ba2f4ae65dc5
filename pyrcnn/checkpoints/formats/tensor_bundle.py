"""Reads TensorFlow's checkpoint format (the "tensor bundle" and its object graph) with numpy, without TensorFlow.

A checkpoint is a prefix: ``PREFIX.index`` is a sorted table (LevelDB's block format) of key → entry, and
``PREFIX.data-00000-of-00001`` holds the bytes. The CRC32C of blocks and tensors is verified. Files that do not follow
the format raise :class:`pyrcnn.InputError` with the file's name. Tensors are views of a memory map. No block and no
tensor may share bytes with another: the memory that a checkpoint takes is in proportion to its size.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from ...errors import InputError, needing
from ...texts import one_line
from .raw.protobuf import Corrupt, fields_of, number_of, unsnap, varint

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
STRING, BFLOAT16 = 7, 14
DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 8: "<c8", 9: "<i8", 10: "?",
    17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8",
}  # fmt: skip
GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Limits far above what is published: Hourglass-104 has 1,900 tensors, 15,000 nodes, and keys of 150 characters
MOST_INDEX = 16 << 20  # bytes of an index, compressed or not
MOST_KEYS, LONGEST_KEY = 100_000, 1024
MOST_NODES = 200_000
MOST_AXES = 32  # numpy's limit before 2.0


@cache
def _crc32c() -> Callable[[bytes], int]:
    with needing("google_crc32c", "reading TensorFlow checkpoints", "google-crc32c"):
        import google_crc32c
    return google_crc32c.value


def _unmasked(crc: int) -> int:
    """The checksum without TensorFlow's mask (a rotation right by 15, plus a constant)."""
    rotated = (crc - 0xA282EAD8) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


@dataclass
class _Entry:
    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int | None = None
    slices: int = 0

    @staticmethod
    def parse(message: bytes) -> _Entry:
        entry = _Entry()
        for number, value in fields_of(message):
            if isinstance(value, bytes):
                if number == 2:
                    dims = [dim for n, dim in fields_of(value) if n == 2 and isinstance(dim, bytes)]
                    entry.shape = tuple(number_of(dict(fields_of(dim)), 1) for dim in dims)
                    if len(dims) > MOST_AXES or not all(size < 2**40 for size in entry.shape):
                        raise Corrupt("a shape is enormous")
                elif number == 6:
                    (entry.crc,) = struct.unpack("<I", value)
                elif number == 7:
                    entry.slices += 1
            elif number in (1, 3, 4, 5):
                setattr(entry, {1: "dtype", 3: "shard", 4: "offset", 5: "size"}[number], value)
        return entry


class TensorBundle:
    """The tensors of a checkpoint by key: ``bundle.keys()``, ``bundle.shape(key)``, ``bundle[key]`` (numpy).

    ``prefix`` is the path without ``.index``, ``name`` what messages call it. Raises :class:`pyrcnn.InputError` for
    files that are missing, truncated, corrupt, partitioned or big-endian.
    """

    def __init__(self, prefix: str | os.PathLike[str], name: str | None = None):
        self.prefix = Path(prefix)
        self.name = name or str(prefix)
        self._index = self.prefix.with_name(self.prefix.name + ".index")
        if not self._index.is_file():
            raise InputError(f"source: no such file: {self.name}.index")
        size = self._index.stat().st_size
        if size > MOST_INDEX:
            raise InputError(f"source: {self.name}.index has {size} bytes, the limit is {MOST_INDEX}")
        _crc32c()  # a missing package is no fault of the file
        self._bytes = self._index.read_bytes()
        self._entries: dict[str, _Entry] = {}
        self._maps: dict[int, np.ndarray] = {}
        self._shards, self._count = 1, 0
        try:
            self._read_index()
        except (Corrupt, IndexError, struct.error, ValueError) as error:
            raise InputError(
                f"source: {self.name}.index is corrupt or no TensorFlow checkpoint index: {error}"
            ) from None

    def _read_index(self) -> None:
        if len(self._bytes) < FOOTER or struct.unpack("<Q", self._bytes[-8:])[0] != MAGIC:
            raise Corrupt("the magic number at its end is missing")
        footer = self._bytes[-FOOTER:]
        _, at = varint(footer, 0)
        _, at = varint(footer, at)
        offset, at = varint(footer, at)
        size, _ = varint(footer, at)
        last = 0
        for _, handle in self._block(offset, size):
            start, at = varint(handle, 0)
            length, _ = varint(handle, at)
            if start < last:
                raise Corrupt("two of its blocks overlap")
            last = start + length
            for key, value in self._block(start, length):
                if key:
                    self._entries[key.decode()] = _Entry.parse(value)
                    continue
                header = dict(fields_of(value))
                self._shards = number_of(header, 1, 1)
                if header.get(2, 0) != 0:
                    raise Corrupt("it is big-endian")
        self._check_apart()

    def _check_apart(self) -> None:
        """Raise :class:`Corrupt` if two tensors share bytes of a data file."""
        ends: dict[int, int] = {}
        for entry in sorted(self._entries.values(), key=lambda entry: entry.offset):
            if entry.size:
                if entry.offset < ends.get(entry.shard, 0):
                    raise Corrupt("two of its tensors overlap")
                ends[entry.shard] = entry.offset + entry.size

    def _block(self, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
        content, trailer = self._bytes[offset : offset + size], self._bytes[offset + size : offset + size + 5]
        if len(content) != size or len(trailer) != 5:
            raise Corrupt("a block runs past the end")
        if _crc32c()(content + trailer[:1]) != _unmasked(struct.unpack("<I", trailer[1:])[0]):
            raise Corrupt("the checksum of a block does not match")
        if trailer[0] == 1:
            content = unsnap(content, MOST_INDEX)
        elif trailer[0] != 0:
            raise Corrupt(f"block compression {trailer[0]} is unknown")
        (restarts,) = struct.unpack("<I", content[-4:])
        end, at, key = len(content) - 4 - 4 * restarts, 0, b""
        if end < 0:
            raise Corrupt("a block has more restarts than bytes")
        while at < end:
            shared, at = varint(content, at)
            own, at = varint(content, at)
            length, at = varint(content, at)
            self._count += 1
            if self._count > MOST_KEYS:
                raise Corrupt(f"it has more than {MOST_KEYS} keys")
            if shared > len(key) or at + own + length > end or shared + own > LONGEST_KEY:
                raise Corrupt("an entry of a block does not fit into it")
            key = key[:shared] + content[at : at + own]
            yield key, content[at + own : at + own + length]
            at += own + length

    def keys(self) -> list[str]:
        """Every key, sorted."""
        return sorted(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading its data."""
        return self._entries[key].shape

    def is_text(self, key: str) -> bool:
        """Whether a tensor holds strings."""
        return self._entries[key].dtype == STRING

    def location(self, key: str) -> tuple[int, int, int]:
        """(shard, offset, size in bytes) of a tensor in the data files."""
        entry = self._entries[key]
        return entry.shard, entry.offset, entry.size

    def open_shard(self, key: str) -> np.ndarray:
        """The bytes of the data file that holds ``key``, as a memory map; later calls return the same map."""
        return self._open(self._entries[key].shard)

    def _open(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            path = self._data_file(shard)
            if not path.is_file():
                raise InputError(f"source: no such file: {self._shown(path)}")
            empty = path.stat().st_size == 0
            self._maps[shard] = np.zeros(0, np.uint8) if empty else np.memmap(path, np.uint8, "r")
        return self._maps[shard]

    def _shown(self, path: Path) -> str:
        return self.name + path.name.removeprefix(self.prefix.name)

    def _data_file(self, shard: int) -> Path:
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self._shards:05d}")

    def _raw(self, shown: str, entry: _Entry) -> np.ndarray:
        if entry.slices:
            raise InputError(f"source: {shown} in {self.name}.index is partitioned, which is not supported")
        raw = self._open(entry.shard)[entry.offset : entry.offset + entry.size]
        if len(raw) != entry.size:
            path = self._data_file(entry.shard)
            raise InputError(
                f"source: {self._shown(path)} is truncated: {shown} needs bytes up to {entry.offset + entry.size}"
            )
        return raw

    def __getitem__(self, key: str) -> np.ndarray:
        entry, shown = self._entries[key], one_line(key)
        raw = self._raw(shown, entry)
        if entry.dtype == STRING:
            return self._strings(shown, entry, raw.tobytes())
        if entry.crc is not None and _crc32c()(raw.tobytes()) != _unmasked(entry.crc):
            raise InputError(f"source: {self.name} is corrupt: the checksum of {shown} does not match")
        if entry.dtype not in DTYPES and entry.dtype != BFLOAT16:
            raise InputError(f"source: {shown} in {self.name} has a dtype (number {entry.dtype}) that is not supported")
        dtype = np.dtype("<u2" if entry.dtype == BFLOAT16 else DTYPES[entry.dtype])
        if entry.size != dtype.itemsize * math.prod(entry.shape):
            raise InputError(
                f"source: {self.name}.index is corrupt: {shown} has {entry.size} bytes for shape {entry.shape}"
            )
        values = raw.view(dtype) if raw.size else np.zeros(0, dtype)
        if entry.dtype == BFLOAT16:
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(entry.shape)

    def _strings(self, shown: str, entry: _Entry, data: bytes) -> np.ndarray:
        """Varint lengths, four bytes of checksum over them, then the bytes."""
        try:
            lengths, at = [], 0
            for _ in range(math.prod(entry.shape)):
                length, at = varint(data, at)
                lengths.append(length)
        except Corrupt as error:
            raise InputError(f"source: {self.name} is corrupt: {shown}: {error}") from None
        at += 4
        values = np.empty(len(lengths), object)
        for i, length in enumerate(lengths):
            values[i] = data[at : at + length]
            if len(values[i]) != length:
                raise InputError(f"source: {self.name} is truncated: {shown}")
            at += length
        return values.reshape(entry.shape)

    def object_graph(self) -> ObjectGraph:
        """The graph of the saved Python objects; TensorFlow 1 checkpoints have none."""
        if GRAPH_KEY not in self:
            raise InputError(f"source: {self.name} holds no object graph, so it is no TensorFlow 2 checkpoint")
        try:
            entry = self._entries[GRAPH_KEY]
            if entry.dtype != STRING or math.prod(entry.shape) != 1:
                raise Corrupt("it is no text")
            return ObjectGraph(self[GRAPH_KEY].item())
        except InputError:
            raise
        except (Corrupt, ValueError) as error:
            raise InputError(f"source: {self.name} is corrupt: its object graph: {error}") from None


@dataclass
class _Node:
    children: dict[str, int] = field(default_factory=dict)
    variables: dict[str, tuple[str, str]] = field(default_factory=dict)  # attribute → (full name, checkpoint key)


class ObjectGraph:
    """Named edges between saved objects. Variables are found by route, because keys depend on the saving order."""

    def __init__(self, message: bytes):
        self.nodes: list[_Node] = []
        for number, node in fields_of(message):
            if number == 1 and isinstance(node, bytes):
                if len(self.nodes) == MOST_NODES:
                    raise Corrupt(f"it has more than {MOST_NODES} nodes")
                self.nodes.append(self._node(node))

    @staticmethod
    def _node(message: bytes) -> _Node:
        result = _Node()
        for number, value in fields_of(message):
            if number not in (1, 2) or not isinstance(value, bytes):
                continue  # slot variables belong to an optimizer
            parts = dict(fields_of(value))
            text = {n: bytes(v).decode() for n, v in parts.items() if isinstance(v, bytes)}
            if number == 1:
                result.children[text.get(2, "")] = number_of(parts, 1)
            else:
                result.variables[text.get(1, "")] = (text.get(2, ""), text.get(3, ""))
        return result

    def find(self, route: str) -> str | None:
        """The checkpoint key of the variable at a route of edge names ("/" inside a name is written ".S")."""
        at = 0
        for edge in route.split("/"):
            name = edge.replace(".S", "/").replace("..", ".")
            if at >= len(self.nodes) or name not in self.nodes[at].children:
                return None
            at = self.nodes[at].children[name]
        return self.nodes[at].variables.get("VARIABLE_VALUE", (None, None))[1] if at < len(self.nodes) else None

    def by_full_name(self, below: str = "") -> dict[str, str]:
        """full name → checkpoint key of every variable reachable below a route."""
        at = 0
        for edge in filter(None, below.split("/")):
            if at >= len(self.nodes) or edge not in self.nodes[at].children:
                return {}
            at = self.nodes[at].children[edge]
        seen, todo, found = set(), [at], {}
        while todo:
            at = todo.pop()
            if at in seen or at >= len(self.nodes):
                continue
            seen.add(at)
            for name, key in self.nodes[at].variables.values():
                found[name] = key
            todo += self.nodes[at].children.values()
        return found
