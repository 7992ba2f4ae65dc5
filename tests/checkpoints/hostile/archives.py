"""Archives (``.tar.gz``) that claim more than they hold."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from tests.checkpoints.hostile import hostile

INDEX, DATA = "m/ckpt-0.index", "m/ckpt-0.data-00000-of-00001"
TB = 1 << 40
END = bytes(1024)


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(**records: str) -> bytes:
    """A header whose records describe the next member."""
    lines = b""
    for key, value in records.items():
        rest = f" {key.replace('_', '.')}={value}\n".encode()
        length = next(n for n in range(len(rest), len(rest) + 9) if len(str(n)) + len(rest) == n)
        lines += str(length).encode() + rest
    return member("pax", len(lines), b"x") + padded(lines)


def written(folder: Path, *parts: bytes) -> Path:
    file = folder / "zoo.tar.gz"
    file.write_bytes(gzip.compress(b"".join(parts), 1))
    return file


@hostile
def tar_sparse_by_pax(folder: Path) -> Path:
    header = pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize=str(TB))
    return written(folder, header, member(DATA, 512), padded(b"1\n%d\n0\n" % TB), END)


@hostile
def tar_sparse_without_a_map(folder: Path) -> Path:
    header = pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="512")
    return written(folder, header, member(DATA, 512), padded(b"99999999999\n"), END)


@hostile
def tar_sparse_by_gnu(folder: Path) -> Path:
    header = bytearray(member(DATA, 512, tarfile.GNUTYPE_SPARSE))
    header[386:398], header[398:410] = b"00000000000\0", b"00000001000\0"
    header[483:495] = b"77777777777\0"  # 8 GB
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:512]) + 8 * 32)
    return written(folder, bytes(header), bytes(512), END)


@hostile
def tar_size_without_data(folder: Path) -> Path:
    return written(folder, member(DATA, 8 << 30), b"data", END)


@hostile
def tar_size_of_a_terabyte(folder: Path) -> Path:
    return written(folder, member("readme.txt", TB), b"data", END)


@hostile
def tar_negative_size(folder: Path) -> Path:
    return written(folder, member(DATA, -512), END)


@hostile
def tar_size_by_pax(folder: Path) -> Path:
    return written(folder, pax(size="-1000000"), member(DATA), pax(size="9" * 300), member(INDEX), END)


@hostile
def tar_bomb(folder: Path) -> Path:
    return written(folder, member(DATA, 200 << 20), bytes(200 << 20), END)


@hostile
def tar_bomb_in_a_member_that_is_skipped(folder: Path) -> Path:
    return written(folder, member("m/saved_model.pb", 200 << 20), bytes(200 << 20), member(INDEX), END)


@hostile
def tar_many_members(folder: Path) -> Path:
    return written(folder, *(member(f"m/{i}") for i in range(20_000)), END)


@hostile
def tar_many_members_that_are_unpacked(folder: Path) -> Path:
    return written(folder, *(member(f"m/{i}.index", 16384) + bytes(16384) for i in range(2000)), END)


@hostile
def tar_long_header(folder: Path) -> Path:
    return written(folder, member("pax", 100 << 20, b"x"), bytes(100 << 20), END)


@hostile
def tar_header_of_a_terabyte(folder: Path) -> Path:
    return written(folder, member("pax", TB, b"x"), END)


@hostile
def tar_long_name(folder: Path) -> Path:
    name = b"a" * (1 << 20) + b".index\0"
    return written(folder, member("././@LongLink", len(name), b"L"), padded(name), member("x.index"), END)


@hostile
def tar_header_after_header(folder: Path) -> Path:
    return written(folder, pax(comment="x") * 5000, member(INDEX), END)


@hostile
def tar_symbolic_link(folder: Path) -> Path:
    return written(folder, member(INDEX, 0, tarfile.SYMTYPE, "/etc/passwd"), member(DATA), END)


@hostile
def tar_hard_link(folder: Path) -> Path:
    return written(folder, member(INDEX, 0, tarfile.LNKTYPE, "../../../etc/passwd"), member(DATA), END)


@hostile
def tar_device(folder: Path) -> Path:
    return written(folder, member(INDEX, 0, tarfile.CHRTYPE), member(DATA, 0, tarfile.FIFOTYPE), END)


@hostile
def tar_traversal(folder: Path) -> Path:
    return written(folder, member("../../../escaped.index"), member("/tmp/escaped.index.data-0"), member(".."), END)


@hostile
def tar_name_with_escapes(folder: Path) -> Path:
    return written(folder, member("\x1b[31m\n.index", 8 << 30), END)


@hostile
def tar_two_of_one_name(folder: Path) -> Path:
    return written(folder, member(INDEX), member(f"n/{INDEX}"), END)


@hostile
def tar_in_tar(folder: Path) -> Path:
    inner = gzip.compress(member(DATA, 50 << 20) + bytes(50 << 20) + END, 1)
    return written(folder, member("inner.tar.gz", len(inner)), padded(inner), END)


@hostile
def tar_truncated(folder: Path) -> Path:
    file = written(folder, member(INDEX, 5000), bytes(5000))
    file.write_bytes(file.read_bytes()[:-20])
    return file


@hostile
def tar_with_a_wrong_checksum(folder: Path) -> Path:
    file = written(folder, member(INDEX, 500), bytes(512), END)
    content = bytearray(file.read_bytes())
    content[-6] ^= 1
    file.write_bytes(content)
    return file


@hostile
def tar_of_nothing(folder: Path) -> Path:
    return written(folder, io.BytesIO().getvalue())
