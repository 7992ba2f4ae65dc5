"""The encodings in TensorFlow's files: protobuf's numbers and messages, and snappy."""

from __future__ import annotations

from collections.abc import Iterator


class Corrupt(Exception):
    """Bytes that violate the format; the reader adds the file's name."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at an offset, and the offset behind it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Corrupt("a number runs past the end")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def fields_of(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of one protobuf message."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        wire = tag & 7
        if wire == 0:
            value: int | bytes
            value, at = varint(message, at)
        elif wire in (1, 2, 5):
            length = {1: 8, 5: 4}.get(wire, 0)
            if wire == 2:
                length, at = varint(message, at)
            value = message[at : at + length]
            if len(value) != length:
                raise Corrupt("a field runs past the end")
            at += length
        else:
            raise Corrupt(f"protobuf wire type {wire}")
        yield tag >> 3, value


def number_of(fields: dict[int, int | bytes], number: int, default: int = 0) -> int:
    """The number in a field of a message."""
    value = fields.get(number, default)
    if not isinstance(value, int):
        raise Corrupt("a number is missing")
    return value


def unsnap(data: bytes, limit: int) -> bytes:
    """Decompress one raw snappy block to at most ``limit`` bytes.

    TensorFlow writes the index uncompressed; other writers may compress it.
    """
    total, at = varint(data, 0)
    if total > limit:
        raise Corrupt(f"a compressed block claims {total} bytes, the limit is {limit}")
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
            raise Corrupt("a compressed block refers outside itself")
        begin = len(out) - offset
        while length:  # a copy may reach into what it writes
            piece = out[begin : begin + length]
            out += piece
            length -= len(piece)
        if len(out) > total:
            raise Corrupt("a compressed block has the wrong length")
    if len(out) != total:
        raise Corrupt("a compressed block has the wrong length")
    return bytes(out)
