"""Reads TensorFlow's checkpoint format (the "tensor bundle" and its object graph) with numpy, without TensorFlow.

A checkpoint is a prefix: ``PREFIX.index`` is a sorted table (LevelDB's block format) of key → entry, and
``PREFIX.data-00000-of-00001`` holds the bytes. The CRC32C of blocks and tensors is verified. Files that do not follow
the format raise :class:`pyrcnn.InputError` with the file's name. Tensors are views of a memory map.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import numpy as np

from ...errors import InputError

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
STRING, BFLOAT16 = 7, 14
DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 8: "<c8", 9: "<i8", 10: "?",
    17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8",
}  # fmt: skip
GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"


class _Corrupt(Exception):
    """Bytes that violate the format; the reader adds the file's name."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _Corrupt("a number runs past the end")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of one protobuf message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            value: int | bytes
            value, at = _varint(message, at)
        elif wire in (1, 2, 5):
            length = {1: 8, 5: 4}.get(wire, 0)
            if wire == 2:
                length, at = _varint(message, at)
            value = message[at : at + length]
            if len(value) != length:
                raise _Corrupt("a field runs past the end")
            at += length
        else:
            raise _Corrupt(f"protobuf wire type {wire}")
        yield tag >> 3, value


def _unmasked(crc: int) -> int:
    """The checksum without TensorFlow's mask (a rotation right by 15, plus a constant)."""
    rotated = (crc - 0xA282EAD8) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def _snappy(data: bytes) -> bytes:
    """Decompress one raw snappy block. TensorFlow writes the index uncompressed; other writers may compress it."""
    total, at = _varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        kind = tag & 3
        if kind == 0:
            length = tag >> 2
            if length >= 60:
                size = length - 59
                length = int.from_bytes(data[at : at + size], "little")
                at += size
            out += data[at : at + length + 1]
            at += length + 1
            continue
        size = (1, 2, 4)[kind - 1]
        length = ((tag >> 2) & 7) + 4 if kind == 1 else (tag >> 2) + 1
        high = (tag >> 5) << 8 if kind == 1 else 0
        offset = high | int.from_bytes(data[at : at + size], "little")
        at += size
        if not 0 < offset <= len(out):
            raise _Corrupt("a compressed block refers outside itself")
        for _ in range(length):
            out.append(out[-offset])
    if len(out) != total:
        raise _Corrupt("a compressed block has the wrong length")
    return bytes(out)


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
        for number, value in _fields(message):
            if isinstance(value, bytes):
                if number == 2:
                    sizes = [dict(_fields(dim)).get(1, 0) for n, dim in _fields(value) if n == 2]  # type: ignore[arg-type]
                    entry.shape = tuple(int(size) for size in sizes)  # type: ignore[arg-type]
                elif number == 6:
                    (entry.crc,) = struct.unpack("<I", value)
                elif number == 7:
                    entry.slices += 1
            elif number in (1, 3, 4, 5):
                setattr(entry, {1: "dtype", 3: "shard", 4: "offset", 5: "size"}[number], value)
        return entry


class TensorBundle:
    """The tensors of a checkpoint by key: ``bundle.keys()``, ``bundle.shape(key)``, ``bundle[key]`` (numpy).

    ``prefix`` is the path without ``.index``. Raises :class:`pyrcnn.InputError` for files that are missing, truncated,
    corrupt, partitioned or big-endian.
    """

    def __init__(self, prefix: str | os.PathLike[str]):
        self.prefix = Path(prefix)
        self._index = self.prefix.with_name(self.prefix.name + ".index")
        if not self._index.is_file():
            raise InputError(f"source: no such file: {self._index}")
        self._bytes = self._index.read_bytes()
        self._entries: dict[str, _Entry] = {}
        self._maps: dict[int, np.ndarray] = {}
        self._shards = 1
        try:
            self._read_index()
        except (_Corrupt, IndexError, struct.error, ValueError) as error:
            raise InputError(f"source: {self._index} is corrupt or no TensorFlow checkpoint index: {error}") from None

    def _read_index(self) -> None:
        if len(self._bytes) < FOOTER or struct.unpack("<Q", self._bytes[-8:])[0] != MAGIC:
            raise _Corrupt("the magic number at its end is missing")
        footer = self._bytes[-FOOTER:]
        _, at = _varint(footer, 0)
        _, at = _varint(footer, at)
        offset, at = _varint(footer, at)
        size, _ = _varint(footer, at)
        for _, handle in self._block(offset, size):
            start, at = _varint(handle, 0)
            length, _ = _varint(handle, at)
            for key, value in self._block(start, length):
                if key:
                    self._entries[key.decode()] = _Entry.parse(value)
                    continue
                header = dict(_fields(value))
                self._shards = int(header.get(1, 1))
                if header.get(2, 0) != 0:
                    raise _Corrupt("it is big-endian")

    def _block(self, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
        content, trailer = self._bytes[offset : offset + size], self._bytes[offset + size : offset + size + 5]
        if len(content) != size or len(trailer) != 5:
            raise _Corrupt("a block runs past the end")
        if google_crc32c.value(content + trailer[:1]) != _unmasked(struct.unpack("<I", trailer[1:])[0]):
            raise _Corrupt("the checksum of a block does not match")
        if trailer[0] == 1:
            content = _snappy(content)
        elif trailer[0] != 0:
            raise _Corrupt(f"block compression {trailer[0]} is unknown")
        (restarts,) = struct.unpack("<I", content[-4:])
        end, at, key = len(content) - 4 - 4 * restarts, 0, b""
        while at < end:
            shared, at = _varint(content, at)
            own, at = _varint(content, at)
            length, at = _varint(content, at)
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

    def location(self, key: str) -> tuple[int, int, int]:
        """(shard, offset, size in bytes) of a tensor in the data files."""
        entry = self._entries[key]
        return entry.shard, entry.offset, entry.size

    def open_shard(self, key: str) -> np.ndarray:
        """The bytes of the data file that holds ``key``, as a memory map; later calls return the same map."""
        shard = self._entries[key].shard
        if shard not in self._maps:
            path = self._data_file(shard)
            if not path.is_file():
                raise InputError(f"source: no such file: {path}")
            empty = path.stat().st_size == 0
            self._maps[shard] = np.zeros(0, np.uint8) if empty else np.memmap(path, np.uint8, "r")
        return self._maps[shard]

    def _data_file(self, shard: int) -> Path:
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self._shards:05d}")

    def _raw(self, key: str, entry: _Entry) -> np.ndarray:
        if entry.slices:
            raise InputError(f"source: {key} in {self._index} is partitioned, which is not supported")
        raw = self.open_shard(key)[entry.offset : entry.offset + entry.size]
        if len(raw) != entry.size:
            path = self._data_file(entry.shard)
            raise InputError(f"source: {path} is truncated: {key} needs bytes up to {entry.offset + entry.size}")
        return raw

    def __getitem__(self, key: str) -> np.ndarray:
        entry = self._entries[key]
        raw = self._raw(key, entry)
        if entry.dtype == STRING:
            return self._strings(key, entry, raw.tobytes())
        if entry.crc is not None and google_crc32c.value(raw.tobytes()) != _unmasked(entry.crc):
            raise InputError(f"source: {self.prefix} is corrupt: the checksum of {key} does not match")
        if entry.dtype not in DTYPES and entry.dtype != BFLOAT16:
            raise InputError(f"source: {key} in {self.prefix} has a dtype (number {entry.dtype}) that is not supported")
        dtype = np.dtype("<u2" if entry.dtype == BFLOAT16 else DTYPES[entry.dtype])
        if entry.size != dtype.itemsize * math.prod(entry.shape):
            raise InputError(f"source: {self._index} is corrupt: {key} has {entry.size} bytes for shape {entry.shape}")
        values = raw.view(dtype) if raw.size else np.zeros(0, dtype)
        if entry.dtype == BFLOAT16:
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(entry.shape)

    def _strings(self, key: str, entry: _Entry, data: bytes) -> np.ndarray:
        """Varint lengths, four bytes of checksum over them, then the bytes."""
        try:
            lengths, at = [], 0
            for _ in range(math.prod(entry.shape)):
                length, at = _varint(data, at)
                lengths.append(length)
        except _Corrupt as error:
            raise InputError(f"source: {self.prefix} is corrupt: {key}: {error}") from None
        at += 4
        values = np.empty(len(lengths), object)
        for i, length in enumerate(lengths):
            values[i] = data[at : at + length]
            if len(values[i]) != length:
                raise InputError(f"source: {self.prefix} is truncated: {key}")
            at += length
        return values.reshape(entry.shape)

    def object_graph(self) -> ObjectGraph:
        """The graph of the saved Python objects; TensorFlow 1 checkpoints have none."""
        if GRAPH_KEY not in self:
            raise InputError(f"source: {self.prefix} holds no object graph, so it is no TensorFlow 2 checkpoint")
        try:
            return ObjectGraph(bytes(self[GRAPH_KEY].item()))
        except (_Corrupt, ValueError) as error:
            raise InputError(f"source: {self.prefix} is corrupt: its object graph: {error}") from None


@dataclass
class _Node:
    children: dict[str, int] = field(default_factory=dict)
    variables: dict[str, tuple[str, str]] = field(default_factory=dict)  # attribute → (full name, checkpoint key)


class ObjectGraph:
    """Named edges between saved objects. Variables are found by route, because keys depend on the saving order."""

    def __init__(self, message: bytes):
        self.nodes: list[_Node] = []
        for number, node in _fields(message):
            if number == 1 and isinstance(node, bytes):
                self.nodes.append(self._node(node))

    @staticmethod
    def _node(message: bytes) -> _Node:
        result = _Node()
        for number, value in _fields(message):
            if number not in (1, 2) or not isinstance(value, bytes):
                continue  # slot variables belong to an optimizer
            parts = dict(_fields(value))
            text = {n: bytes(v).decode() for n, v in parts.items() if isinstance(v, bytes)}
            if number == 1:
                result.children[text.get(2, "")] = int(parts.get(1, 0))  # type: ignore[arg-type]
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
