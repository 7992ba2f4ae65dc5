"""Writes TensorFlow checkpoints (a tensor bundle with an object graph) of any size, from the format's description."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}


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


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A table's block without shared prefixes: entries, the restart at 0, and the trailer."""
    content = b"".join(
        b"\0" + varint(len(key)) + varint(len(value)) + key + value for key, value in entries
    ) + struct.pack("<II", 0, 1)  # fmt: skip
    return content + b"\0" + struct.pack("<I", masked(content + b"\0"))


def handle(offset: int, written: bytes) -> bytes:
    return varint(offset) + varint(len(written) - 5)


def write(prefix: Path, arrays: Mapping[str, np.ndarray], full_names: Mapping[str, str]) -> Path:
    """``prefix.index`` and its one data file, holding ``arrays`` (by key without suffix) and their graph."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    entries: dict[str, bytes] = {}
    with open(prefix.with_name(prefix.name + ".data-00000-of-00001"), "wb") as data:
        for key, array in arrays.items():
            shape = b"".join(message(2, number(1, size)) for size in array.shape)
            entries[key + SUFFIX] = append(data, array.tobytes(), DTYPES[array.dtype.name], shape)
        graph = object_graph(full_names)
        length = varint(len(graph))
        lengths = struct.pack("<I", len(graph))  # the checksum is of the lengths as whole numbers
        string = length + struct.pack("<I", masked(lengths)) + graph
        entries["_CHECKPOINTABLE_OBJECT_GRAPH"] = append(data, string, 7, b"")
    header = number(1, 1) + message(3, number(1, 1))
    table = block([(b"", header), *((key.encode(), entries[key]) for key in sorted(entries))])
    meta = block([])
    index = block([(b"~", handle(0, table))])
    footer = handle(len(table), meta) + handle(len(table) + len(meta), index)
    magic = struct.pack("<Q", 0xDB4775248B80FB57)
    path = prefix.with_name(prefix.name + ".index")
    path.write_bytes(table + meta + index + footer.ljust(40, b"\0") + magic)
    return prefix


def append(data: BinaryIO, content: bytes, dtype: int, shape: bytes) -> bytes:
    """Append one tensor and return its entry."""
    offset = data.tell()
    data.write(content)
    place = (number(4, offset) if offset else b"") + number(5, len(content))
    return number(1, dtype) + message(2, shape) + place + varint(6 << 3 | 5) + struct.pack("<I", masked(content))
