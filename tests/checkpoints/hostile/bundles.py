"""TensorFlow checkpoints whose index and object graph claim more than the files hold."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from pyrcnn.checkpoints.formats.tensor_bundle import GRAPH_KEY
from tests.checkpoints.bundle_writer import SUFFIX, block, header, masked, message, number, table, varint, write
from tests.checkpoints.hostile import hostile

HUGE = 1 << 62
KERNEL = "model/_feature_extractor/kernel"


def bundle(folder: Path, index: bytes, data: bytes = bytes(64)) -> Path:
    (folder / "ckpt-0.index").write_bytes(index)
    (folder / "ckpt-0.data-00000-of-00001").write_bytes(data)
    return folder


def with_graph(folder: Path, entry: bytes, data: bytes = bytes(64)) -> Path:
    return bundle(folder, table([block([header(), (GRAPH_KEY.encode(), entry)])]), data)


def with_text(folder: Path, graph: bytes) -> Path:
    """A checkpoint that is its object graph alone."""
    data = varint(len(graph)) + bytes(4) + graph
    return with_graph(folder, number(1, 7) + number(5, len(data)), data)


def with_tensor(folder: Path, *entries: bytes) -> Path:
    """A checkpoint whose variables, which the model asks for by name, have these entries."""
    layers = "backbone/stem", "head/out"
    arrays = {f"model/{layer}": np.zeros(4, np.float32) for layer in layers}
    write(folder / "ckpt-0", arrays, {key: key for key in arrays})
    content = [(f"model/{i}{SUFFIX}".encode(), entry) for i, entry in enumerate(entries)]
    (folder / "ckpt-0.index").write_bytes(table([block([header(), *content])]))
    return folder


def raw_table(content: bytes, compression: bytes = b"\0") -> bytes:
    """A table of one block, given as it is stored."""
    stored = content + compression
    body = stored + struct.pack("<I", masked(stored))
    index = block([(b"~", varint(0) + varint(len(content)))])
    place = varint(len(body)) + varint(len(index))
    body += index + b"\0" + struct.pack("<I", masked(index + b"\0"))
    return body + (place + place).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


@hostile
def tf_index_past_the_end(folder: Path) -> Path:
    place = varint(HUGE) + varint(HUGE)
    return bundle(folder, bytes(100) + (place + place).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))


@hostile
def tf_endless_number(folder: Path) -> Path:
    return bundle(folder, bytes(100) + b"\xff" * 40 + struct.pack("<Q", 0xDB4775248B80FB57))


@hostile
def tf_wrong_checksum(folder: Path) -> Path:
    index = bytearray(table([block([header()])]))
    index[3] ^= 1
    return bundle(folder, bytes(index))


@hostile
def tf_snappy_claims_a_terabyte(folder: Path) -> Path:
    return bundle(folder, raw_table(varint(1 << 40) + b"\0a", b"\1"))


@hostile
def tf_snappy_bomb(folder: Path) -> Path:
    copies = 3_000_000
    return bundle(folder, raw_table(varint(64 * copies + 1) + b"\0a" + b"\xfe\1\0" * copies, b"\1"))


@hostile
def tf_snappy_of_many_entries(folder: Path) -> Path:
    copies = 250_000  # entries of three zero bytes: an empty key with an empty value
    return bundle(folder, raw_table(varint(64 * copies + 1) + b"\0\0" + b"\xfe\1\0" * copies, b"\1"))


@hostile
def tf_snappy_runs_past_its_size(folder: Path) -> Path:
    return bundle(folder, raw_table(varint(8) + b"\0a" + b"\xfe\1\0" * 300_000, b"\1"))


@hostile
def tf_one_block_many_times(folder: Path) -> Path:
    one = block([(b"key%05d" % i, number(1, 1)) for i in range(20_000)])
    body = one + b"\0" + struct.pack("<I", masked(one + b"\0"))
    index = block([(b"~%06d" % i, varint(0) + varint(len(one))) for i in range(50_000)])
    place = varint(len(body)) + varint(len(index))
    body += index + b"\0" + struct.pack("<I", masked(index + b"\0"))
    return bundle(folder, body + (place + place).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))


@hostile
def tf_growing_keys(folder: Path) -> Path:
    entries, length = bytearray(b"\0\1\0a"), 1
    for _ in range(50_000):
        entries += varint(length) + varint(20) + varint(0) + b"b" * 20
        length += 20
    return bundle(folder, raw_table(bytes(entries) + struct.pack("<II", 0, 1)))


@hostile
def tf_many_keys(folder: Path) -> Path:
    return bundle(folder, table([block([header(), *((b"%d" % i, b"") for i in range(200_000))])]))


@hostile
def tf_more_restarts_than_bytes(folder: Path) -> Path:
    return bundle(folder, raw_table(struct.pack("<II", 0, 0xFFFFFFFF)))


@hostile
def tf_entry_past_its_block(folder: Path) -> Path:
    return bundle(folder, raw_table(b"\0" + varint(HUGE) + varint(HUGE) + b"key" + struct.pack("<II", 0, 1)))


@hostile
def tf_shape_that_overflows(folder: Path) -> Path:
    return with_tensor(folder, number(1, 1) + message(2, message(2, number(1, HUGE)) * 4) + number(5, 16))


@hostile
def tf_shape_of_many_axes(folder: Path) -> Path:
    return with_tensor(folder, number(1, 1) + message(2, message(2, number(1, 1)) * 5000) + number(5, 16))


@hostile
def tf_tensors_that_overlap(folder: Path) -> Path:
    return with_tensor(folder, *(number(1, 14) + message(2, message(2, number(1, 8))) + number(5, 16),) * 50)


@hostile
def tf_graph_at_an_absurd_offset(folder: Path) -> Path:
    return with_graph(folder, number(1, 7) + number(4, HUGE) + number(5, HUGE))


@hostile
def tf_graph_in_an_absurd_shard(folder: Path) -> Path:
    return with_graph(folder, number(1, 7) + number(3, 1 << 63) + number(5, 4))


@hostile
def tf_shard_count(folder: Path) -> Path:
    entry = number(1, 7) + number(5, 4)
    return bundle(folder, table([block([header((1 << 64) - 1), (GRAPH_KEY.encode(), entry)])]))


@hostile
def tf_shard_count_is_text(folder: Path) -> Path:
    return bundle(folder, table([block([(b"", message(1, b"1")), (GRAPH_KEY.encode(), number(1, 7))])]))


@hostile
def tf_graph_is_a_number(folder: Path) -> Path:
    return with_graph(folder, number(1, 9) + number(5, 8), struct.pack("<q", 1 << 32))


@hostile
def tf_graph_of_many_texts(folder: Path) -> Path:
    shape = message(2, message(2, number(1, 1 << 30)))
    return with_graph(folder, number(1, 7) + shape + number(5, 2 << 20), bytes(2 << 20))


@hostile
def tf_graph_longer_than_the_file(folder: Path) -> Path:
    data = varint(HUGE) + bytes(60)
    return with_graph(folder, number(1, 7) + number(5, len(data)), data)


@hostile
def tf_graph_of_many_nodes(folder: Path) -> Path:
    return with_text(folder, message(1, b"") * 1_000_000)


@hostile
def tf_graph_in_a_circle(folder: Path) -> Path:
    child = message(1, number(1, 0) + message(2, b"model"))
    return with_text(folder, message(1, child))


@hostile
def tf_graph_with_absurd_children(folder: Path) -> Path:
    child = message(1, number(1, HUGE) + message(2, b"model")) + message(1, message(1, b"12") + message(2, b"a"))
    return with_text(folder, message(1, child))


@hostile
def tf_graph_of_escapes(folder: Path) -> Path:
    return with_text(folder, message(1, message(2, message(1, b"\xff\x1b[1m"))))


@hostile
def tf_partitioned(folder: Path) -> Path:
    return with_graph(folder, number(1, 7) + message(7, b""))
