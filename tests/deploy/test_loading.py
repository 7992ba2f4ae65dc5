"""Exported files are read by one function, which refuses what cannot run before it runs."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch

import pyrcnn
from pyrcnn import InputError, deploy
from tests.deploy.test_whole import MOBILE, batch, check, detector

NAMES = ["default", "avx2", "avx512"]


def test_a_program(tmp_path: Path) -> None:
    model = detector(MOBILE)
    run = deploy.load(deploy.export(model, tmp_path / "model.pt2"))
    check(run, model, batches=[(2, 48, 64)])
    assert run.classes == model.classes
    assert run.about["family"] == "CenterNet"


def package(path: Path, isa: str) -> Path:
    """The entries of a compiled package without its code: what is refused is not opened."""
    about = json.dumps({"classes": ["a"], "instruction_set": isa})
    entries = {"pyrcnn.json": about, "pyrcnn.instruction_set": isa, "AOTI_DEVICE_KEY": "cpu"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data/aotinductor/model/x.wrapper_metadata.json", json.dumps(entries))
        for name, value in {"archive_format": "pt2", "archive_version": "0", ".data/version": "3\n",
                            "byteorder": "little"}.items():  # fmt: skip
            archive.writestr(f"archive/{name}", value)
    return path


def test_a_package_for_a_better_processor_is_refused(tmp_path: Path) -> None:
    best = pyrcnn.build_info()["cpu_best"]
    for isa in NAMES[NAMES.index(best) + 1 :]:
        with pytest.raises(InputError, match=f"must be computed by a processor with {isa}, .*got one with {best}"):
            deploy.load(package(tmp_path / "model.pt2", isa))
    with pytest.raises(InputError, match="must be computed with default, avx2 or avx512, got avx1024"):
        deploy.load(package(tmp_path / "model.pt2", "avx1024"))


@pytest.mark.slow
def test_a_package(tmp_path: Path) -> None:
    model = detector(MOBILE)
    run = deploy.load(deploy.export(model, tmp_path / "model.pt2", "aoti", (48, 64)))
    check(run, model, batches=[(1, 48, 64)])
    assert run.about["instruction_set"] in NAMES


def test_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = detector(MOBILE)
    run = deploy.load(deploy.export(model, tmp_path / "model.onnx", "onnx"))
    check(run, model, batches=[(1, 48, 64)])
    (tmp_path / "other.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"other.onnx must be an ONNX file: "):
        deploy.load(tmp_path / "other.onnx")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"path must be a file, got .*none.pt2"):
        deploy.load(tmp_path / "none.pt2")
    (tmp_path / "text.pt2").write_text("text")
    with pytest.raises(InputError, match=r"path must be a file of deploy.export, got .*text.pt2"):
        deploy.load(tmp_path / "text.pt2")
    program = torch.export.export(torch.nn.Identity(), (batch(1, 8, 8),))
    torch.export.save(program, tmp_path / "foreign.pt2")
    with pytest.raises(InputError, match=r"foreign.pt2 without the entry pyrcnn.json"):
        deploy.load(tmp_path / "foreign.pt2")
