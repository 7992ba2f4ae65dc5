"""Writes TensorFlow checkpoints (a tensor bundle with an object graph) of any size, from the format's description."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "uint16": 14, "float16": 19}  # 14: bfloat16's bits


def masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def object_graph(full_names: Mapping[str, str]) -> bytes:
    """The graph whose edges are the parts of the keys; ``full_names``: key without suffix → name of the variable."""
    children: list[dict[str, int]] = [{}]
    variables: dict[int, tuple[str, str]] = {}
    for key, full_name in full_names.items():
        at = 0
        for edge in key.split("/"):
            if edge not in children[at]:
                children[at][edge] = len(children)
                children.append({})
            at = children[at][edge]
        variables[at] = (full_name, key + SUFFIX)
    nodes = []
    for at, edges in enumerate(children):
        node = b"".join(
            message(1, number(1, child) + message(2, edge.replace(".S", "/").encode())) for edge, child in edges.items()
        )
        if at in variables:
            name, key = variables[at]
            parts = (b"VARIABLE_VALUE", name.encode(), key.encode())
            node += message(2, b"".join(message(i, part) for i, part in enumerate(parts, 1)))
        nodes.append(message(1, node))
    return b"".join(nodes)


def snappy(content: bytes) -> bytes:
    """Raw snappy: literals, and a copy wherever the eight bytes before repeat themselves."""
    out, at = bytearray(varint(len(content))), 0
    while at < len(content):
        if at >= 8 and content[at : at + 8] == content[at - 8 : at] and len(content) >= at + 8:
            out += bytes([7 << 2 | 2, 8, 0])  # a copy of 8 bytes from 8 back, its offset in two bytes
            at += 8
            continue
        literal = content[at : at + 8]
        out += bytes([len(literal) - 1 << 2]) + literal
        at += len(literal)
    return bytes(out)


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A table's block without shared prefixes: entries and the restart at 0."""
    parts = (b"\0" + varint(len(key)) + varint(len(value)) + key + value for key, value in entries)
    return b"".join(parts) + struct.pack("<II", 0, 1)


def table(blocks: list[bytes], compress: bool = False) -> bytes:
    """An index file of these data blocks, each with its trailer, an empty metaindex, the index and the footer."""
    out = bytearray()

    def put(content: bytes) -> bytes:
        content = snappy(content) if compress else content
        place = varint(len(out)) + varint(len(content))
        kind = b"\1" if compress else b"\0"
        out.extend(content + kind + struct.pack("<I", masked(content + kind)))
        return place

    handles = [put(content) for content in blocks]
    meta = put(block([]))
    index = put(block([(b"~%d" % i, place) for i, place in enumerate(handles)]))
    return bytes(out) + (meta + index).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def header(shards: int = 1, endianness: int = 0) -> tuple[bytes, bytes]:
    big = number(2, endianness) if endianness else b""
    return b"", number(1, shards) + big + message(3, number(1, 1))


def write(
    prefix: Path, arrays: Mapping[str, np.ndarray], full_names: Mapping[str, str], compress: bool = False
) -> Path:
    """``prefix.index`` and its one data file, holding ``arrays`` (by key without suffix) and their graph."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    entries: dict[str, bytes] = {}
    with open(prefix.with_name(prefix.name + ".data-00000-of-00001"), "wb") as data:
        for key, array in arrays.items():
            shape = b"".join(message(2, number(1, size)) for size in array.shape)
            entries[key + SUFFIX] = append(data, array.tobytes(), DTYPES[array.dtype.name], shape)
        graph = object_graph(full_names)
        lengths = struct.pack("<I", len(graph))  # the checksum is of the lengths as whole numbers
        string = varint(len(graph)) + struct.pack("<I", masked(lengths)) + graph
        entries["_CHECKPOINTABLE_OBJECT_GRAPH"] = append(data, string, 7, b"")
    content = block([header(), *((key.encode(), entries[key]) for key in sorted(entries))])
    prefix.with_name(prefix.name + ".index").write_bytes(table([content], compress))
    return prefix


def append(data: BinaryIO, content: bytes, dtype: int, shape: bytes) -> bytes:
    """Append one tensor and return its entry."""
    offset = data.tell()
    data.write(content)
    place = (number(4, offset) if offset else b"") + number(5, len(content))
    return number(1, dtype) + message(2, shape) + place + varint(6 << 3 | 5) + struct.pack("<I", masked(content))
