"""Valid checkpoints with random damage: read or refused, never anything else."""

from __future__ import annotations

import collections
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrcnn import InputError, checkpoints, models
from tests.checkpoints.bundle_writer import write as write_bundle
from tests.checkpoints.hostile import model

COUNT = 40  # mutations of each form
FORMS = {"zip": "w.pth", "legacy": "w.pth", "pickle": "w.pkl", "ours": "w.safetensors", "tf": "w.tar.gz", "index": ""}


OTHER_SHAPES = "has other shapes"


def small() -> dict[str, torch.Tensor]:
    """The model's entries with few elements, so that mutations hit what describes them."""
    return {name: value.flatten()[:3].clone() for name, value in model().state_dict().items()}


def write(form: str, folder: Path) -> Path:
    """A valid file with names of the model."""
    file = folder / FORMS[form]
    content = {"state_dict": {f"module.{name}": value for name, value in small().items()}, "epoch": 3}
    if form in ("zip", "legacy"):
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    elif form == "pickle":
        file.write_bytes(pickle.dumps({"model": {name: value.numpy() for name, value in small().items()}}, 4))
    elif form == "ours":
        checkpoints.save(model(), file)
    else:
        arrays = {f"model/layer{i}/kernel": np.zeros((2, i), np.float32) for i in range(20)}
        prefix = write_bundle(folder / "ckpt-0", arrays, {key: key for key in arrays})
        if form == "index":
            return prefix.with_name("ckpt-0.index")
        with tarfile.open(file, "w:gz") as tar:
            for part in sorted(folder.glob("ckpt-0*")):
                tar.add(part, f"zoo/checkpoint/{part.name}")
    return file


def mutations(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """``content`` with bytes changed, cut out, repeated, or cut off."""
    random = np.random.default_rng(seed)
    for number in range(count):
        damaged = bytearray(content)
        # descriptions stand at the ends of files: half of the mutations are there
        near = len(content) if number % 2 else min(len(content), 600)
        for _ in range(int(random.integers(1, 5))):
            at = int(random.integers(near))
            at = at if number % 4 else max(0, len(damaged) - 1 - at)
            kind, length = random.integers(4), int(random.integers(1, 9))
            if kind < 2:
                damaged[at : at + length] = random.integers(0, 256, length, dtype=np.uint8).tobytes()
            elif kind == 2:
                del damaged[at : at + length]
            else:
                damaged[at:at] = b"\xff" * length
        yield bytes(damaged[: int(random.integers(len(damaged)))] if number % 10 == 9 else damaged)


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_refused_or_harmless(form: str, tmp_path: Path) -> None:
    file, target = write(form, tmp_path), model()
    content = file.read_bytes()
    outcomes: collections.Counter[str] = collections.Counter()
    for damaged in (content, *mutations(content, COUNT, seed=len(form))):
        file.write_bytes(damaged)
        for load in (lambda: checkpoints.load(target, file), lambda: models.load(file)):
            try:
                load()
                outcomes["read"] += 1
            except InputError as error:
                whole = OTHER_SHAPES in str(error)  # every tensor was read
                outcomes["read" if whole else "refused" if str(error).isprintable() else "in several lines"] += 1
            if form != "ours":
                break
    assert outcomes["refused"] > COUNT // 4
    assert outcomes["read"] > 0 or form in ("tf", "index")  # which hold another model
    assert not outcomes["in several lines"]
