"""Whole checkpoints in their published names and shapes, up to the largest, Hourglass-104's 765 MB."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrcnn import checkpoints
from pyrcnn.checkpoints.formats.tensor_bundle import TensorBundle
from tests.checkpoints.bundle_writer import write
from tests.conftest import python
from tests.models.parity.tf_weights import variables

MEASURE = """
import json, resource, sys, time
from pyrcnn import checkpoints, models
model = models.build(sys.argv[1])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
before, began = peak(), time.process_time()  # what others do on the machine is not counted
report = checkpoints.load(model, sys.argv[2])
assert not report.missing and not report.unexpected
print(json.dumps({"seconds": time.process_time() - began, "gigabytes": peak() - before}))
"""


def checkpoint(prefix: Path, name: str) -> Path:
    listed = variables(name)
    rng = np.random.default_rng(0)
    arrays = {key: rng.standard_normal(variable.shape, np.float32) for key, variable in listed.items()}
    return write(prefix, arrays, {key: variable.full_name for key, variable in listed.items()})


@pytest.mark.parametrize("name", ["mbv2_kpts", "hg104tiny_kpts"])
def test_a_whole_checkpoint(name: str, tmp_path: Path) -> None:
    small = {"stem": 8, "dims": (16, 16, 24, 24, 24, 32)} if name.startswith("hg") else {}
    preset = "centernet_hg104_512_kpts" if small else "centernet_mobilenet_v2_fpn_512_kpts"
    prefix = checkpoint(tmp_path / "ckpt-0", name)
    bundle = TensorBundle(prefix)
    model, report = checkpoints.build(preset, prefix, **small)
    assert (report.missing, report.unexpected) == ((), ())
    kernel = bundle["model/_prediction_head_dict/box.Soffset/0/layer_with_weights-1/kernel/.ATTRIBUTES/VARIABLE_VALUE"]
    assert torch.equal(model.head["offset"][0].out.weight, torch.tensor(kernel).permute(3, 2, 0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["prefix", "archive"])
def test_hourglass_104_loads_in_seconds_and_little_memory(form: str, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "ckpt-0", "hg104_512")
    assert (tmp_path / "ckpt-0.data-00000-of-00001").stat().st_size > 765_000_000
    if form == "archive":
        with tarfile.open(tmp_path / "zoo.tar.gz", "w:gz", compresslevel=1) as tar:
            for file in sorted(tmp_path.glob("ckpt-0*")):
                tar.add(file, f"centernet/checkpoint/{file.name}")
        source = tmp_path / "zoo.tar.gz"
    command, folder = python(MEASURE, "centernet_hg104_512", source)
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    measured = json.loads(result.stdout)
    print(form, measured)
    assert measured["gigabytes"] <= 1.3
    assert measured["seconds"] <= (5 if form == "prefix" else 15)  # an archive is unpacked first
