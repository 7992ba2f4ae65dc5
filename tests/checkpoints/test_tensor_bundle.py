"""The checkpoint format in what the published files leave out, and in files that are wrong on purpose."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from pyrcnn import InputError
from pyrcnn.checkpoints.formats.tensor_bundle import GRAPH_KEY, TensorBundle
from tests.checkpoints import bundle_writer
from tests.checkpoints.bundle_writer import SUFFIX, block, header, message, number, table, write

ARRAYS = {
    "model/a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "model/b.Sc/step": np.array(7),
    "model/half": np.array([1.5, -2], np.float16),
    "model/none": np.zeros((0, 3), np.float32),
    "model/brain": np.array([0x3FC0, 0xC000], np.uint16),
}
NAMES = {key: f"full/{number}" for number, key in enumerate(ARRAYS)}


def with_index(prefix: Path, index: bytes) -> TensorBundle:
    prefix.with_name(prefix.name + ".index").write_bytes(index)
    return TensorBundle(prefix)


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_written_is_read(compress: bool, tmp_path: Path) -> None:
    bundle = TensorBundle(write(tmp_path / "ckpt-0", ARRAYS, NAMES, compress))
    graph = bundle.object_graph()
    for key, array in ARRAYS.items():
        found = graph.find(key)
        assert found == key + SUFFIX
        expected = np.array([1.5, -2], np.float32) if key == "model/brain" else array
        np.testing.assert_array_equal(bundle[found], expected)
        assert bundle[found].dtype == expected.dtype
        assert bundle[found].shape == expected.shape
        assert graph.by_full_name("model")[NAMES[key]] == found
    assert graph.find("model/a/bias") is None
    assert graph.by_full_name("optimizer") == {}


def test_several_data_files(tmp_path: Path) -> None:
    for shard in range(2):
        (tmp_path / f"ckpt.data-0000{shard}-of-00002").write_bytes(np.float32(shard).tobytes())
    entries = [(b"model/%d" % shard, number(1, 1) + number(3, shard) + number(5, 4)) for shard in range(2)]
    bundle = with_index(tmp_path / "ckpt", table([block([header(2), entries[0]]), block([entries[1]])]))
    assert [float(bundle[key]) for key in bundle.keys()] == [0, 1]  # noqa: SIM118
    (tmp_path / "ckpt.data-00001-of-00002").unlink()
    with pytest.raises(InputError, match=r"no such file: .*ckpt\.data-00001-of-00002"):
        with_index(tmp_path / "ckpt", table([block([header(2), *entries])]))["model/1"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (number(1, 1) + number(5, 4) + message(7, b""), "is partitioned, which is not supported"),
        (number(1, 21) + number(5, 4), "dtype .number 21. that is not supported"),
        (number(1, 1) + number(5, 8), "has 8 bytes for shape"),
        (number(1, 1) + number(4, 9999) + number(5, 8), "is truncated"),
        (number(1, 1) + message(2, message(2, number(1, 2**32)) * 2), "has 0 bytes for shape"),
    ],
)
def test_entries_that_cannot_be_read_are_named(entry: bytes, message: str, tmp_path: Path) -> None:
    prefix = write(tmp_path / "ckpt", {"model/x": np.zeros(16, np.float32)}, {"model/x": "x"})
    bundle = with_index(prefix, table([block([header(), (b"model/y", entry)])]))
    with pytest.raises(InputError, match=message):
        bundle["model/y"]


def test_other_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ckpt\.index is corrupt .* big-endian"):
        with_index(tmp_path / "ckpt", table([block([header(1, 1)])]))
    with pytest.raises(InputError, match="no object graph, so it is no TensorFlow 2 checkpoint"):
        with_index(tmp_path / "ckpt", table([block([header()])])).object_graph()


def test_no_index_with_right_checksums_gets_past_the_reader(tmp_path: Path) -> None:
    """Bytes are changed before the checksums are made: what the format allows is read, the rest is an InputError."""
    prefix = write(tmp_path / "ckpt", ARRAYS, NAMES)
    whole = prefix.with_name("ckpt.index").read_bytes()
    content = whole[: whole.index(b"\0\0\0\0\1\0\0\0") + 8]
    graph = bundle_writer.object_graph(NAMES)
    assert with_index(prefix, table([content])).keys() == TensorBundle(prefix).keys()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged, nodes = bytearray(content), bytearray(graph)
        for victim in (damaged, nodes):
            for at in random.integers(0, len(victim), 2):
                victim[at] = random.integers(256)
        try:
            bundle = with_index(prefix, table([bytes(damaged)]))
            for key in bundle.keys():  # noqa: SIM118
                with contextlib.suppress(InputError):
                    bundle[key]
            with contextlib.suppress(InputError):
                bundle.object_graph().by_full_name("model")
        except InputError:
            refused += 1
        with open(prefix.with_name("ckpt.data-00000-of-00001"), "wb") as data:
            string = bundle_writer.varint(len(nodes)) + bytes(4) + bytes(nodes)
            place = bundle_writer.append(data, string, 7, b"")
        try:
            read = with_index(prefix, table([block([header(), (GRAPH_KEY.encode(), place)])])).object_graph()
            for key in ARRAYS:
                read.find(key)
            read.by_full_name("model")
        except InputError:
            refused += 1
        write(prefix, ARRAYS, NAMES)
    assert 20 < refused < 300
