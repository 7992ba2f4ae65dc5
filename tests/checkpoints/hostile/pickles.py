"""Pickles and PyTorch's archives that claim more than they hold."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.checkpoints.hostile import Attack, hostile, names, several

LEGACY = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))


def array(kind: str, shape: tuple[int, ...], data: bytes) -> Any:
    """What numpy pickles for an array with these bytes, right or wrong."""
    rebuild = np.arange(2).__reduce__()[0]
    return Built(rebuild, (np.ndarray, (0,), b"b"), (1, shape, np.dtype(kind), False, data))


class Built:
    """Pickles as a call and a state."""

    def __init__(self, *parts: object):
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


def dict_of(value: object) -> bytes:
    return pickle.dumps({"model": dict.fromkeys(names(), value)}, 2)


BILLION = b"]q\0" + b"".join(b"](" + b"h%c" % i * 10 + b"eq%c" % (i + 1) for i in range(100))
CIRCLE = b"}q\0X\1\0\0\0ah\0sX\1\0\0\0b]q\1h\1ah\0as"
TUPLES = b")" + b"\x85" * 900_000

several(
    "pickle",
    {
        "deep_list": b"\x80\2" + b"]" * 400_000 + b"a" * 399_999 + b".",
        "deep_dict": b"\x80\2" + b"}N" * 300_000 + b"}" + b"s" * 300_000 + b".",
        "deep_tuple": b"\x80\2" + TUPLES + b".",
        "deep_key": b"\x80\2}" + TUPLES + b"Ns.",
        "deep_set": b"\x80\4\x8f(" + TUPLES + b"\x90.",
        "deep_objects": b"\x80\2" + b"cos\nsystem\nq\0)R" + b"q\1" + b"0h\0h\1\x85Rq\1" * 100_000 + b".",
        "deep_state": b"\x80\2" + b"ca\nb\n)R" * 50_000 + b"b" * 49_999 + b".",
        "far_memo": b"\x80\2Nr\xff\xff\xff\xff" + b"Nr\xfe\xff\xff\x7f" + b".",
        "memo_that_is_empty": b"\x80\2j\xff\xff\xff\xff.",
        "bytes_of_an_exabyte": b"\x80\4\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
        "text_of_an_exabyte": b"\x80\4\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
        "text_of_2_gb": b"\x80\2X" + struct.pack("<I", (1 << 31) - 1) + b"x.",
        "frame_of_an_exabyte": b"\x80\4\x95" + struct.pack("<Q", 1 << 60) + b"N.",
        "bytearray_of_an_exabyte": b"\x80\5\x96" + struct.pack("<Q", 1 << 60) + b"N.",
        "integer_of_2_gb": b"\x80\2\x8b" + struct.pack("<i", (1 << 31) - 1) + b"\1.",
        "integer_of_negative_size": b"\x80\2\x8b" + struct.pack("<i", -5) + b"\1.",
        "huge_keys": b"\x80\2}\x8b" + struct.pack("<i", 1 << 20) + b"\7" * (1 << 20) + b"q\0Ns" + b"h\0Ns" * 99_999
        + b".",
        "decimal": b"\x80\2I" + b"7" * 1_000_000 + b"\n.",
        "billion_laughs": b"\x80\2" + BILLION + b".",
        "circle": b"\x80\2" + CIRCLE + b".",
        "many_instructions": b"\x80\2" + b"N0" * 2_000_000 + b".",
        "many_objects": b"\x80\2" + b"(" + b"]" * 900_000 + b"l.",
        "many_sets": b"\x80\4" + b"(" + b"\x8f" * 900_000 + b"l.",
        "many_marks": b"\x80\2" + b"(" * 900_000 + b".",
        "many_names": b"\x80\2" + b"".join(b"ca%d\nb\n0" % i for i in range(200_000)) + b"N.",
        "encoded_many_times": b"\x80\2X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\0X\6\0\0\0latin1q\1("
        + b"c_codecs\nencode\nh\0h\1\x86R" * 100_000 + b"l.",
        "sizes_many_times": b"\x80\2(" + b"N" * 200_000 + b"lq\0ctorch\nSize\nq\1(" + b"h\1h\0\x85R" * 100_000 + b"l.",
        "arguments_many_times": b"\x80\2(" + b"N" * 200_000 + b"tq\0cnumpy.core.multiarray\n_reconstruct\nq\1("
        + b"h\1h\0R" * 200_000 + b"l.",
        "pairs_many_times": b"\x80\2(" + b"(U\1aNt" * 50_000 + b"lq\0ccollections\nOrderedDict\nq\1("
        + b"h\1h\0\x85R" * 100_000 + b"l.",
        "state_many_times": b"\x80\2}(" + b"".join(b"M" + struct.pack("<H", i) + b"]Na" for i in range(60_000))
        + b"uq\0(" + b"ca\nb\n)Rh\0b" * 100_000 + b"l.",
        "tuple_state_many_times": b"\x80\2(" + b"N" * 200_000 + b"tq\0(" + b"ca\nb\n)Rh\0b" * 100_000 + b"l.",
        "list_many_times": b"\x80\2]Naq\0}U\xff" + b"a" * 255 + b"(" + b"h\0" * 400_000 + b"ls.",
        "long_name_many_times": b"\x80\4X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\0("
        + b"h\0h\0\x93" * 100_000 + b"l.",
        "long_key_many_times": b"\x80\4X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\0("
        + b"}h\0]Nas" * 100_000 + b"l.",
        "nothing_on_the_stack": b"\x80\2.",
        "no_mark": b"\x80\2Ne.",
        "no_end": b"\x80\2N",
        "unknown_instruction": b"\x80\2\xff.",
        "buffer_outside": b"\x80\5\x97.",
        "persistent": b"\x80\2NQ.",
        "extension": b"\x80\2\x84\xff\xff\xff\xff.",
        "escapes_in_a_name": b"\x80\2c\x1b[31mevil\nrun\x1b[0m\n)R.",
        "system": pickle.dumps({"model": Attack(os.system, "touch /tmp/hostile_was_here")}, 2),
        "eval": pickle.dumps({"model": Attack(eval, "open('/tmp/hostile_was_here', 'w')")}, 4),
        "array_that_overflows": dict_of(array("f4", (2**40, 2**40), b"1234")),
        "array_of_many_axes": dict_of(array("f4", (1,) * 5000, b"1234")),
        "array_of_negative_size": dict_of(array("f4", (-1, -1), b"1234")),
        "array_of_text_sizes": dict_of(array("f4", ("a", None), b"1234")),  # type: ignore[arg-type]
        "array_of_objects": dict_of(array("O", (1,), b"1234")),
        "array_without_bytes": dict_of(array("f4", (1,), ["x"])),  # type: ignore[arg-type]
    },
    "weights.pkl",
)  # fmt: skip


@hostile
def pickle_of_arrays_that_share_bytes(folder: Path) -> Path:
    data = bytes(6 << 20)
    content = {name: array("f4", (1536, 1024), data) for name in names()}
    (folder / "weights.pkl").write_bytes(pickle.dumps({"model": content}, 4))
    return folder / "weights.pkl"


@hostile
def pickle_of_many_tensors(folder: Path) -> Path:
    content = {f"backbone.res2.{i}.conv1.weight": np.float32(i) for i in range(49_000)}
    (folder / "weights.pkl").write_bytes(pickle.dumps({"model": content}, 4))
    return folder / "weights.pkl"


@hostile
def pickle_of_too_many_tensors(folder: Path) -> Path:
    (folder / "weights.pkl").write_bytes(pickle.dumps({str(i): np.float32(i) for i in range(60_000)}, 4))
    return folder / "weights.pkl"


@hostile
def pickle_of_long_names_with_dots(folder: Path) -> Path:
    names = ["a." * 490 + str(i) for i in range(3000)]
    (folder / "weights.pkl").write_bytes(pickle.dumps(dict.fromkeys(names, np.float32(0)), 4))
    return folder / "weights.pkl"


# ---- PyTorch's archives --------------------------------------------------------------------------------------------


class Storage:
    """A storage that pickles as PyTorch's would, with any numbers."""

    def __init__(self, key: str = "0", count: int = 4, kind: type = torch.FloatStorage):
        self.identity = ("storage", kind, key, "cpu", count)


class Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> Any:
        return value.identity if isinstance(value, Storage) else None


def program(tensor: tuple[Any, ...]) -> bytes:
    """The pickle of a state dict whose tensors are all this (storage, offset, size, stride)."""
    stream = io.BytesIO()
    content = {name: Attack(torch._utils._rebuild_tensor_v2, *tensor, False, {}) for name in names()}
    Pickler(stream, 2).dump(content)
    return stream.getvalue()


def zipped(folder: Path, pickled: bytes, data: bytes = bytes(16), kind: int = zipfile.ZIP_STORED) -> Path:
    file = folder / "weights.pth"
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr("w/data.pkl", pickled)
        archive.writestr("w/data/0", data)
    return file


def patched(file: Path, find: bytes, replace: bytes, last: bool = True) -> Path:
    """``file`` with the last (or first) place of ``find`` overwritten."""
    content = bytearray(file.read_bytes())
    at = content.rfind(find) if last else content.find(find)
    assert at >= 0
    content[at : at + len(replace)] = replace
    file.write_bytes(content)
    return file


GOOD = (Storage(), 0, (4,), (1,))
SHAPES: dict[str, tuple[Any, ...]] = {
    "that_overflows": (Storage(), 0, (2**40, 2**40), (2**40, 1)),
    "of_one_element_repeated": (Storage(), 0, (10**6, 10**6), (0, 0)),
    "past_its_storage": (Storage(), 2**50, (4,), (1,)),
    "with_a_huge_stride": (Storage(), 0, (2,), (2**61,)),
    "of_negative_offset": (Storage(), -4, (4,), (1,)),
    "of_negative_size": (Storage(), 0, (-4,), (1,)),
    "of_many_axes": (Storage(), 0, (1,) * 5000, (1,) * 5000),
    "of_text_sizes": (Storage(), 0, ("4",), (1,)),
    "without_strides": (Storage(), 0, (2, 2), ()),
    "larger_than_its_record": (Storage(count=10**15), 0, (10**15,), (1,)),
    "without_a_record": (Storage("../../../etc/passwd"), 0, (4,), (1,)),
    "of_an_unknown_type": (Storage(kind=os.PathLike), 0, (4,), (1,)),
}
for _name, _tensor in SHAPES.items():

    def _shape(folder: Path, tensor: tuple[Any, ...] = _tensor) -> Path:
        return zipped(folder, program(tensor))

    _shape.__name__ = f"torch_tensor_{_name}"
    hostile(_shape)

several(
    "legacy",
    {
        "storage_of_an_exabyte": LEGACY + program(GOOD) + pickle.dumps(["0"], 2) + struct.pack("<q", 1 << 58),
        "storage_of_negative_size": LEGACY + program(GOOD) + pickle.dumps(["0"], 2) + struct.pack("<q", -4) + bytes(16),
        "storage_of_nobody": LEGACY + program(GOOD) + pickle.dumps(["7"], 2) + struct.pack("<q", 4) + bytes(16),
        "keys_that_are_no_list": LEGACY + program(GOOD) + pickle.dumps(7, 2) + bytes(24),
        "tensor_larger_than_its_storage": LEGACY + program((Storage(), 0, (99,), (1,))) + pickle.dumps(["0"], 2)
        + struct.pack("<q", 4) + bytes(16),
        "truncated": LEGACY + program(GOOD)[:-30],
    },
    "weights.pth",
)  # fmt: skip


@hostile
def zip_truncated(folder: Path) -> Path:
    file = zipped(folder, program(GOOD))
    file.write_bytes(file.read_bytes()[:-60])
    return file


@hostile
def zip_record_of_four_gigabytes(folder: Path) -> Path:
    file = zipped(folder, program(GOOD))
    at = file.read_bytes().rfind(b"PK\1\2")
    return patched(file, file.read_bytes()[at : at + 30], file.read_bytes()[at : at + 20] + b"\xfe\xff\xff\xff" * 2)


@hostile
def zip_record_of_an_exabyte(folder: Path) -> Path:
    file = zipped(folder, program(GOOD))
    at = file.read_bytes().rfind(b"PK\1\2")
    return patched(file, file.read_bytes()[at : at + 30], file.read_bytes()[at : at + 20] + b"\xff" * 8)


@hostile
def zip_records_that_overlap(folder: Path) -> Path:
    """The list names one record 20,000 times."""
    file = folder / "weights.pth"
    data, head = bytes(1 << 20), struct.Struct("<4s5H3I2H")
    local = head.pack(b"PK\3\4", 20, 0, 0, 0, 0, zlib.crc32(data), len(data), len(data), 3, 0) + b"w/x" + data
    entry = struct.Struct("<4s6H3I5H2I")
    names = [b"w/data/%d" % i for i in range(20_000)]
    listed = b"".join(
        entry.pack(b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, len(data), len(data), len(name), 0, 0, 0, 0, 0, 0) + name
        for name in names
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(names), len(names), len(listed), len(local), 0)
    file.write_bytes(local + listed + end)
    return file


@hostile
def zip_with_more_records_than_bytes(folder: Path) -> Path:
    file = zipped(folder, program(GOOD))
    return patched(file, b"PK\5\6\0\0\0\0\2\0\2\0", b"PK\5\6\0\0\0\0\xff\xff\xff\xff")


@hostile
def zip_with_a_list_past_the_end(folder: Path) -> Path:
    file = zipped(folder, program(GOOD))
    at = file.read_bytes().rfind(b"PK\5\6")
    content = file.read_bytes()
    file.write_bytes(content[: at + 12] + b"\xff\xff\xff\x7f" * 2 + content[at + 20 :])
    return file


@hostile
def zip_with_a_64_bit_end_outside(folder: Path) -> Path:
    file = zipped(folder, program(GOOD))
    content = file.read_bytes()
    at = content.rfind(b"PK\5\6")
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 1 << 62, 1)
    file.write_bytes(content[:at] + locator + content[at:])
    return file


@hostile
def zip_with_many_records(folder: Path) -> Path:
    file = folder / "weights.pth"
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(40_000):
            archive.writestr(f"w/data/{i}", b"")
    return file


@hostile
def zip_bomb(folder: Path) -> Path:
    return zipped(
        folder, program((Storage(count=50 << 20), 0, (50 << 20,), (1,))), bytes(200 << 20), zipfile.ZIP_DEFLATED
    )


@hostile
def zip_without_a_pickle(folder: Path) -> Path:
    file = folder / "weights.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    return file


@hostile
def zip_of_two_pickles(folder: Path) -> Path:
    file = zipped(folder, program(GOOD))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("v/data.pkl", program(GOOD))
    return file


@hostile
def zip_in_zip(folder: Path) -> Path:
    file = zipped(folder, program(GOOD))
    content = file.read_bytes()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w/inner.pth", content)
    return file


@hostile
def zip_with_a_wrong_checksum(folder: Path) -> Path:
    weights = {names()[0]: torch.arange(500.0)}
    torch.save(weights, folder / "weights.pth")
    return patched(folder / "weights.pth", np.arange(100, 120, dtype=np.float32).tobytes(), b"\1", last=False)


@hostile
def zip_that_is_empty(folder: Path) -> Path:
    (folder / "weights.pth").write_bytes(b"PK\5\6" + bytes(18))
    return folder / "weights.pth"


@hostile
def zip_of_attacks(folder: Path) -> Path:
    torch.save({"model": Attack(os.system, "touch /tmp/hostile_was_here")}, folder / "weights.pth")
    return folder / "weights.pth"
