"""Finds the records of a zip archive as PyTorch writes it: uncompressed, so that they are read in place.

Every offset and size is compared with what the file holds before it is used, and no two records may share bytes: the
memory that a file takes is in proportion to its size.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

from .unpickling import Unreadable

END, END64, LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
MOST_COMMENT = 1 << 16  # bytes after the end record
MOST_DIRECTORY = 16 << 20  # bytes of the list of records: over 100,000 of them
ENTRY = struct.Struct("<4s6H3I5H2I")
LOCAL = struct.Struct("<4s5H3I2H")
FULL = 0xFFFFFFFF  # the value stands in the 64-bit extra field


@dataclass(frozen=True)
class Record:
    """One record: its local header's offset, the size of its content, and its CRC32 (0: none was written)."""

    header: int
    size: int
    crc: int
    stored: bool


def records(data: mmap.mmap) -> dict[str, Record]:
    """The records of an archive by name. Raises :class:`Unreadable` for whatever the file does not hold."""
    count, size, start = _end(data)
    if size > MOST_DIRECTORY or ENTRY.size * count > size or start + size > len(data):
        raise Unreadable(f"its list of {count} records does not fit into the file")
    found: dict[str, Record] = {}
    at, last = start, start + size
    for _ in range(count):
        if at + ENTRY.size > last:
            raise Unreadable("its list of records is truncated")
        entry = ENTRY.unpack_from(data, at)
        mark, flags, method, crc, packed, full = entry[0], entry[3], entry[4], entry[7], entry[8], entry[9]
        name_length, extra_length, comment_length, header = entry[10], entry[11], entry[12], entry[16]
        at += ENTRY.size
        if mark != b"PK\x01\x02" or at + name_length + extra_length + comment_length > last:
            raise Unreadable("its list of records is damaged")
        name = data[at : at + name_length].decode("utf-8", "replace")
        extra = data[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment_length
        full, packed, header = _wide(extra, full, packed, header)
        if name in found:
            raise Unreadable("two of its records have one name")
        found[name] = Record(header, packed, crc, method == 0 and full == packed and not flags & 1)
    _check_apart(found, start)
    return found


def locate(data: mmap.mmap, record: Record) -> int:
    """The offset of a record's content."""
    if not record.stored:
        raise Unreadable("its records are compressed or encrypted, which torch.save does not do")
    mark, *_, name_length, extra_length = LOCAL.unpack_from(data, record.header)
    begin = record.header + LOCAL.size + name_length + extra_length
    if mark != b"PK\x03\x04" or begin + record.size > len(data):
        raise Unreadable("a record runs past the end")
    return int(begin)


def _end(data: mmap.mmap) -> tuple[int, int, int]:
    """(records, bytes of the list, offset of the list) from the end of the archive."""
    at = data.rfind(END, max(0, len(data) - MOST_COMMENT - 22))
    if at < 0 or at + 22 > len(data):
        raise Unreadable("the end of the archive is missing: it is truncated")
    count, size, start = struct.unpack_from("<HII", data, at + 10)
    if data[max(0, at - 20) : at - 16] == LOCATOR64 and at >= 20:
        (wide,) = struct.unpack_from("<Q", data, at - 12)
        if wide + 56 > at or data[wide : wide + 4] != END64:
            raise Unreadable("the end of the archive is damaged")
        count, size, start = struct.unpack_from("<QQQ", data, wide + 32)
    return count, size, start


def _wide(extra: bytes, *values: int) -> list[int]:
    """``values`` with those that do not fit 32 bits from the extra field."""
    wide, at = b"", 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    found = []
    for value in values:
        if value == FULL:
            if len(wide) < 8:
                raise Unreadable("a record's size is missing")
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        found.append(value)
    return found


def _check_apart(found: dict[str, Record], end: int) -> None:
    last = 0
    for record in sorted(found.values(), key=lambda record: record.header):
        if record.header < last:
            raise Unreadable("two of its records overlap")
        last = record.header + LOCAL.size + record.size
        if last > end:
            raise Unreadable("a record runs past the end")
