"""Tensors with more than 2^31 elements: the images behind them give the same results as alone. All else is zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pyrcnn import ops
from tests.cases.proposals import roi_inputs, rpn_inputs
from tests.ops.checks import identical
from tests.ops.test_nms import clustered_boxes
from tests.reference import nms as reference

GIANT = 2**31
BEHIND = 3  # images behind element 2^31
on_each_device = pytest.mark.parametrize(
    "device",
    [
        pytest.param(torch.device("cpu"), marks=pytest.mark.slow),
        pytest.param(
            torch.device("cuda"),
            marks=[
                pytest.mark.slow,
                pytest.mark.cuda,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
            ],
        ),
    ],
    ids=str,
)


def behind(images: int, part: Tensor, fill: float = 0.0) -> Tensor:
    """Return ``images`` images of which ``part`` is the last."""
    whole = part.new_full((images, *part.shape[1:]), fill) if fill else part.new_zeros((images, *part.shape[1:]))
    whole[-len(part) :] = part
    return whole


def last(result: Any) -> list[Tensor]:
    return [t[-BEHIND:].clone() for t in result]


@on_each_device
def test_nms_padded(device: torch.device, generator: torch.Generator) -> None:
    rows = 1024
    some = [clustered_boxes(generator, rows) for _ in range(BEHIND)]
    boxes = torch.stack([b for b, _ in some]).to(device, torch.float16)
    scores = torch.stack([s for _, s in some]).to(device, torch.float16)
    images = GIANT // (4 * rows) + 8
    many = behind(images, boxes)
    assert many.numel() > GIANT
    found = ops.nms_padded(many, behind(images, scores), 0.5, 20, score_threshold=0.1)
    identical(last(found), ops.nms_padded(boxes, scores, 0.5, 20, score_threshold=0.1))
    assert not found[1][:-BEHIND].any()


@on_each_device
def test_generate_proposals(device: torch.device, generator: torch.Generator) -> None:
    shape = {"images": BEHIND, "levels": [(400, 400, 3)], "pre": 500, "post": 100}
    inputs = rpn_inputs(generator, device, torch.float16, shape)
    images = GIANT // (12 * 400 * 400) + 8
    many = {
        **inputs,
        "objectness": [behind(images, inputs["objectness"][0], -1e4)],
        "deltas": [behind(images, inputs["deltas"][0])],
        "image_sizes": behind(images, inputs["image_sizes"]),
    }
    assert many["deltas"][0].numel() > GIANT
    identical(last(ops.generate_proposals(**many)), list(ops.generate_proposals(**inputs)))


@on_each_device
def test_roi_detections(device: torch.device, generator: torch.Generator) -> None:
    shape = {"images": BEHIND, "rows": 1000, "classes": 500, "width": 4, "most": 50, "threshold": 0.2}
    inputs = roi_inputs(generator, device, torch.float16, shape)
    inputs["class_logits"] *= 2
    images = GIANT // (1000 * 501) + 8
    names = ("class_logits", "box_deltas", "proposals", "counts", "image_sizes")
    many = {**inputs, **{name: behind(images, inputs[name]) for name in names}}
    assert many["class_logits"].numel() > GIANT
    expected = ops.roi_detections(**inputs)
    assert expected[3].any()
    identical(last(ops.roi_detections(**many)), list(expected))


@on_each_device
def test_match_boxes(device: torch.device, generator: torch.Generator) -> None:
    truths = clustered_boxes(generator, 40)[0].to(device, torch.float16)
    few = clustered_boxes(generator, 1000)[0].to(device, torch.float16)
    anchors = behind(GIANT // 4 + 1000, few)
    assert anchors.numel() > GIANT
    for many, alone in zip(ops.match_boxes(anchors, truths, 0.7, 0.3, True),
                           ops.match_boxes(few, truths, 0.7, 0.3, True), strict=True):  # fmt: skip
        assert torch.equal(many[-1000:], alone)


@on_each_device
def test_preprocess_from_and_to_a_huge_image(device: torch.device, generator: torch.Generator) -> None:
    side = 27_000
    image = torch.zeros(3, side, side, dtype=torch.uint8, device=device)
    image[:, ::1000, ::1000] = torch.randint(0, 256, (3, 27, 27), generator=generator, dtype=torch.uint8).to(device)
    assert image.numel() > GIANT
    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    small = ops.preprocess([image], (27, 27), zero, one, legacy=True)
    torch.testing.assert_close(small[0], image[:, ::1000, ::1000] / 255)
    large = ops.preprocess([(small[0] * 255).round().byte()], (side, side), zero, one, legacy=True, dtype=torch.float16)
    torch.testing.assert_close(large[0, :, ::1000, ::1000].float(), small[0], atol=2e-3, rtol=0)


@on_each_device
def test_nms_of_400_000_boxes(device: torch.device, generator: torch.Generator) -> None:
    """Memory must be linear: torchvision's bit matrix would take 20 GB, and its indices overflow near 393,000 boxes."""
    few, scores = (t.round() if t.ndim == 2 else t for t in clustered_boxes(generator, 200))
    copies = 2000
    shift = torch.arange(copies)[:, None, None] * torch.tensor([4096.0, 0, 4096, 0])
    expected = (reference.nms(few, scores, 0.7)[:, None] + torch.arange(copies) * len(few)).flatten()
    many = (few + shift).view(-1, 4).to(device)
    assert torch.equal(ops.nms(many, scores.repeat(copies).to(device), 0.7).cpu(), expected)
