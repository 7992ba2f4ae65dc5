"""Exported files hold the detector they were made from, and are whole or not there."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pyrcnn import InputError, deploy
from pyrcnn.deploy.exporting import METADATA
from tests.conftest import python
from tests.deploy.small import small
from tests.detector import TinyDetector

MOBILE = "centernet_mobilenet_v2_fpn_512"
FASTER = "faster_rcnn_mobilenet_v2_fpn"
SIZE = (64, 96)


def given(model: Any) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Pixels, sizes, and the model's detections."""
    pixels, sizes = torch.randn(1, 3, *SIZE), torch.tensor([[60, 90]])
    with torch.no_grad():
        return pixels, sizes, tuple(model.predict_padded(pixels, sizes))


@pytest.mark.parametrize("name", [MOBILE, FASTER, "centernet_mobilenet_v2_fpn_512_kpts", "faster_rcnn_vgg16"])
def test_a_program_detects_as_its_model(name: str, tmp_path: Path) -> None:
    model = small(name)
    model.classes = ["red", "white", "platelet"][: model.config.num_classes]
    path = deploy.export(model, tmp_path / "new" / "model.pt2", size=SIZE, whole=False)
    extra = {METADATA: ""}
    program = torch.export.load(path, extra_files=extra).module()
    pixels, sizes, wanted = given(
        deploy.optimize(model, fuse=False)
    )  # other rounding could change the order of equal scores
    for got, expected in zip(program(pixels, sizes), wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)
    about = json.loads(extra[METADATA])
    assert about["classes"] == model.classes
    assert about["input"] == {"name": "pixels", "batch": 1, "height": 64, "width": 96}
    assert [p.name for p in path.parent.iterdir()] == ["model.pt2"]


def test_a_program_runs_in_a_process_that_imports_pyrcnn(tmp_path: Path) -> None:
    model = small(MOBILE)
    path = deploy.export(model, tmp_path / "model.pt2", size=SIZE, batch=2, dtype=torch.float32, whole=False)
    pixels, sizes = torch.randn(2, 3, *SIZE), torch.tensor([[60, 90], [64, 96]])
    torch.save((pixels, sizes, tuple(model.predict_padded(pixels, sizes))), tmp_path / "expected.pt")
    code = """import pyrcnn, torch
program = torch.export.load(sys.argv[1]).module()
pixels, sizes, wanted = torch.load(sys.argv[2])
torch.testing.assert_close(program(pixels, sizes)[1], wanted[1], rtol=1e-4, atol=1e-5)
print("same")"""
    command, folder = python(code, path, tmp_path / "expected.pt")
    assert subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True).stdout == "same\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", [MOBILE, FASTER])
def test_a_compiled_package_detects_as_its_model(name: str, tmp_path: Path) -> None:
    model = small(name)
    path = deploy.export(model, tmp_path / "model.pt2", "aoti", SIZE, whole=False)
    package = torch._inductor.aoti_load_package(str(path))
    pixels, sizes, wanted = given(model)
    for got, expected in zip(package(pixels, sizes), wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)
    assert json.loads(package.get_metadata()[METADATA])["classes"] == model.classes


@pytest.mark.parametrize("name", [MOBILE, FASTER])
@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="needs onnxscript")
def test_onnx_holds_the_network(name: str, tmp_path: Path) -> None:
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = small(name)
    path = deploy.export(model, tmp_path / "model.onnx", "onnx", SIZE, whole=False)
    program = onnx.load(path)
    onnx.checker.check_model(program)
    pixels, _, _ = given(model)
    names = [output.name for output in program.graph.output]
    got = dict(zip(names, ReferenceEvaluator(program).run(None, {"pixels": pixels.numpy()}), strict=True))
    with torch.no_grad():
        if name == MOBILE:
            wanted = model.heads(pixels)
        else:
            wanted = {f"objectness{i}": x for i, x in enumerate(model.rpn.predict(model.backbone(pixels))[0])}
    assert set(wanted) <= set(names)
    for key, value in wanted.items():
        torch.testing.assert_close(torch.from_numpy(got[key]), value, rtol=1e-3, atol=1e-3)
    assert {p.key for p in program.metadata_props} >= {METADATA}


def test_onnx_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="format onnx needs onnx and onnxscript: pip install onnx onnxscript"):
        deploy.export(small(MOBILE), tmp_path / "model.onnx", "onnx", SIZE)
    assert not list(tmp_path.iterdir())


def test_bad_arguments_leave_nothing_behind(tmp_path: Path) -> None:
    model = small(MOBILE)
    (tmp_path / "file").write_text("")
    for arguments, message in (
        ((model, tmp_path / "m.pt2", "tensorrt"), "format must be one of torch, aoti, onnx, got 'tensorrt'"),
        ((model, tmp_path / "m.onnx"), r"path must end in .pt2 for format torch"),
        (
            (model, tmp_path / "m.pt2", "torch", (64, 50), {"whole": False}),
            r"size must be two positive multiples of 32, got \(64, 50\)",
        ),
        ((model, tmp_path / "m.pt2", "torch", (0, 64)), "size must be"),
        ((model, tmp_path / "m.pt2", "torch", (64,)), "size must be two positive integers, height and width"),
        ((model, tmp_path / "m.pt2", "torch", SIZE, {"dynamic": True}), "dynamic must be False where size or batch"),
        ((model, tmp_path / "m.pt2", {"dynamic": False}), "size must be the height and width of the images"),
        ((model, tmp_path / "m.pt2", {"batch": 0, "size": SIZE}), "batch must be a positive integer, got 0"),
        (
            (model, tmp_path / "m.onnx", "onnx", {"whole": False, "dynamic": True}),
            "dynamic must be False for networks alone",
        ),
        ((TinyDetector(), tmp_path / "m.pt2"), "model must be a detector, such as a CenterNet or FasterRCNN"),
        ((deploy.optimize(model), tmp_path / "m.pt2"), "model must be a detector.*got Optimized"),
        ((model, tmp_path / "file" / "m.pt2", "torch", SIZE), "path: the folder"),
    ):
        options = arguments[-1] if isinstance(arguments[-1], dict) else {}
        with pytest.raises(InputError, match=message):
            deploy.export(*(a for a in arguments if a is not options), **options)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_hourglasses_need_multiples_of_128(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="multiples of 128"):
        deploy.export(small("centernet_hg104_512"), tmp_path / "m.pt2", size=(128, 96), whole=False)
