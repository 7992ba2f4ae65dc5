"""Whole detectors in files: images of any size to boxes in their own pixels."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import pyrcnn
from pyrcnn import deploy
from pyrcnn.deploy.exporting import METADATA
from pyrcnn.models.preprocess import load_images
from tests.deploy.small import small

PICTURE = Path(pyrcnn.__file__).parent / "assets" / "BloodImage_00068.jpg"
MOBILE = "centernet_mobilenet_v2_fpn_512"
FASTER = "faster_rcnn_mobilenet_v2_fpn"  # pads to sizes that depend on the image; torchvision's resizing
TENSORFLOW = "faster_rcnn_resnet50_v1_640"
# keypoints; the paper's resizing and RoIPool; Pillow's resizing; TensorFlow's resizing and crops
OTHERS = ["centernet_mobilenet_v2_fpn_512_kpts", "faster_rcnn_vgg16", "faster_rcnn_resnet50_fpn_detectron2", TENSORFLOW]
BATCHES = [(1, 60, 90), (2, 80, 50), (3, 33, 47), (1, 200, 130), (1, 64, 64)]

Run = Callable[[Tensor], Sequence[Tensor]]


SMALLER: dict[str, dict[str, Any]] = {
    MOBILE: {"input_size": 128, "max_detections": 20},
    FASTER: {"min_size": 96, "max_size": 150, "rpn": {"before_nms": (200, 100), "after_nms": (100, 30)}},
}


def detector(name: str) -> Any:
    """A model for small images, trained where it can be: of equal scores, rounding would decide the order."""
    torch.manual_seed(0)
    if name in SMALLER:
        return pyrcnn.load_model(name, **SMALLER[name])
    if name != TENSORFLOW:
        return small(name)
    model = small(name, min_size=160, max_size=160)
    with torch.no_grad():
        for parameter in model.roi.predictor.parameters():
            parameter.mul_(1e-3)  # otherwise all scores are 0 or 1
    return model


def batch(n: int, h: int, w: int) -> Tensor:
    """``n`` parts of a photograph, in the memory layout of an image file."""
    (photo,) = load_images([PICTURE])
    shifted = [photo[:, 40 * i :, 60 * i :] for i in range(n)]
    return torch.stack(
        [F.interpolate(part[None].float(), (h, w), mode="area")[0].byte() for part in shifted]
    ).contiguous(memory_format=torch.channels_last)


def check(run: Run, model: Any, within: float = 0.01, batches: Sequence[tuple[int, int, int]] = BATCHES) -> None:
    """``run`` detects what ``model`` detects in every image, boxes within 0.01 pixels.

    The model gets its norms folded, as the file does: with other rounding, equal scores would change places.
    """
    reference = deploy.optimize(model, fuse=False, engine="native")
    found = 0
    for sizes in batches:
        images = batch(*sizes)
        boxes, scores, labels, counts, *keypoints = run(images)
        for n, wanted in enumerate(reference(list(images))):
            found += len(wanted)
            assert counts[n] == len(wanted)
            assert (labels[n, : len(wanted)] == wanted.labels).all()
            torch.testing.assert_close(boxes[n, : len(wanted)], wanted.boxes, rtol=0, atol=within)
            torch.testing.assert_close(scores[n, : len(wanted)], wanted.scores, rtol=0, atol=1e-4)
            if wanted.keypoints is not None:
                torch.testing.assert_close(keypoints[0][n, : len(wanted)], wanted.keypoints, rtol=0, atol=within)
            assert not boxes[n, len(wanted) :].any()
            assert (labels[n, len(wanted) :] == -1).all()
    assert found > 0


@pytest.mark.parametrize("name", [MOBILE, FASTER, *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)])
def test_a_program_takes_images_of_any_size(name: str, tmp_path: Path) -> None:
    model = detector(name)
    extra = {METADATA: ""}
    run = torch.export.load(deploy.export(model, tmp_path / "model.pt2"), extra_files=extra).module()
    check(run, model)
    about = json.loads(extra[METADATA])
    assert about["input"] == {"name": "images", "batch": None, "height": None, "width": None}
    assert "instruction_set" not in about


def refusals(size: tuple[int, int] | None) -> list[tuple[Tensor, str]]:
    """Images that a program must refuse, with the message."""
    found = [
        (batch(1, 48, 64)[0], r"images must be .*got \[3, 48, 64\]"),
        (torch.zeros(1, 4, 48, 64, dtype=torch.uint8), r"images must be .*got \[1, 4, 48, 64\]"),
        (batch(1, 48, 64).int(), "images must be uint8 or floating point, got Int"),
    ]
    if size is not None:
        found += [
            (batch(2, 48, 64), r"images must be \[1, 3, 48, 64\], for which .*got \[2, 3, 48, 64\]"),
            (batch(1, 32, 32), r"images must be \[1, 3, 48, 64\], for which .*got \[1, 3, 32, 32\]"),
        ]
    return found


def check_refusals(run: Run, size: tuple[int, int] | None) -> None:
    for images, message in refusals(size):
        with pytest.raises((RuntimeError, ValueError), match=message):
            run(images)


def check_conversions(run: Run, images: Tensor) -> None:
    """Images of other strides and dtypes give the same detections."""
    wanted = run(images.contiguous())
    for given in (images.contiguous(memory_format=torch.channels_last), images / 255, (images / 255).double()):
        for got, want in zip(run(given), wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-3, atol=0.01)


@pytest.mark.parametrize("size", [None, (48, 64)], ids=["any", "fixed"])
def test_a_program_refuses_and_converts(size: tuple[int, int] | None, tmp_path: Path) -> None:
    model = detector(MOBILE)
    run = torch.export.load(deploy.export(model, tmp_path / "model.pt2", size=size)).module()
    check_refusals(run, size)
    check_conversions(run, batch(1, 48, 64))
    check(run, model, batches=[(1, 48, 64)])


@pytest.mark.parametrize("name", [MOBILE, FASTER])
def test_from_pixels_of_any_size(name: str, tmp_path: Path) -> None:
    model = detector(name)
    run = torch.export.load(deploy.export(model, tmp_path / "model.pt2", whole=False)).module()
    for n, height, width in ((1, 64, 96), (2, 96, 64), (1, 160, 32)):
        pixels, sizes = torch.randn(n, 3, height, width), torch.tensor([[height - 5, width - 3]] * n)
        wanted = deploy.optimize(model, fuse=False).predict_padded(pixels, sizes)
        for given in (pixels, pixels.contiguous(memory_format=torch.channels_last), pixels.double()):
            for got, want in zip(run(given, sizes.int()), wanted, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-3)
    with pytest.raises((RuntimeError, ValueError), match=r"pixels must be .* with H and W multiples of 32, .*33"):
        run(torch.zeros(1, 3, 64, 33), torch.tensor([[64, 33]]))


@pytest.mark.slow
def test_a_package_refuses_and_converts(tmp_path: Path) -> None:
    model, size = detector(MOBILE), (48, 64)
    run = torch._inductor.aoti_load_package(str(deploy.export(model, tmp_path / "model.pt2", "aoti", size)))
    check(run, model, batches=[(1, 48, 64)])
    check_refusals(run, size)
    check_conversions(run, batch(1, 48, 64))
    about = json.loads(run.get_metadata()[METADATA])
    assert about["instruction_set"] == pyrcnn.build_info()["cpu_capability"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [MOBILE, FASTER])
def test_a_package_takes_images_of_any_size(name: str, tmp_path: Path) -> None:
    model = detector(name)
    path = deploy.export(model, tmp_path / "model.pt2", "aoti")
    run = torch._inductor.aoti_load_package(str(path))
    check(run, model)
    check_refusals(run, None)
    images = batch(2, 80, 50)
    torch.save((images, tuple(run(images))), tmp_path / "expected.pt")
    code = """import sys, torch
torch.ops.load_library(sys.argv[1])
images, wanted = torch.load(sys.argv[2])
got = torch._inductor.aoti_load_package(sys.argv[3])(images)
assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
assert not [name for name in sys.modules if name.startswith("pyrcnn")]
print("same")"""
    library = Path(pyrcnn.__file__).with_name("libpyrcnn.so")
    command = [sys.executable, "-c", code, str(library), str(tmp_path / "expected.pt"), str(path)]
    assert subprocess.run(command, text=True, capture_output=True, check=True, cwd=tmp_path).stdout == "same\n"
