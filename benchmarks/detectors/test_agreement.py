"""The comparison of detectors in ``bench_models`` can fail: each of these mistakes must be noticed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.detectors.agreement import EXACT, ROUNDED, Tolerance, check_agreement
from benchmarks.detectors.calibration import OBJECTS, PER_CHANNEL, calibrate_, example_image
from pyrcnn import Detections, models, ops
from pyrcnn.models.centernet import decode as centernet_decode
from pyrcnn.models.faster_rcnn import roi_head

NAMES = ("centernet_mobilenet_v2_fpn_512_kpts", "faster_rcnn_mobilenet_v2_fpn")
SMALL: dict[str, Any] = {
    NAMES[0]: {"input_size": 128},
    NAMES[1]: {"min_size": 128, "max_size": 192, "rpn": {"after_nms": (100, 100)}},
}


@pytest.fixture(scope="module")
def detectors() -> dict[str, tuple[Any, torch.Tensor, Detections]]:
    found = {}
    for name in NAMES:
        torch.manual_seed(0)
        image = example_image(192, 192)
        model = calibrate_(models.build(name, **SMALL[name]).eval(), image)
        with torch.inference_mode():
            found[name] = model, image, model([image])[0]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_objects_are_clear(detectors, name: str) -> None:
    """Objects lie far above the threshold of 0.5, and nearly everything else far below it."""
    scores = detectors[name][2].scores
    objects = PER_CHANNEL if name == NAMES[0] else OBJECTS  # one class, several classes
    assert int((scores > 0.75).sum()) >= objects - 1
    assert int(((scores > 0.4) & (scores < 0.65)).sum()) <= 1


def sides(found: Detections) -> torch.Tensor:
    """Width and height of the boxes, for both corners [M, 4]."""
    return (found.boxes[:, 2:] - found.boxes[:, :2]).repeat(1, 2)


@pytest.mark.parametrize("allowed", [EXACT, ROUNDED], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda d: replace(d, boxes=d.boxes + sides(d) / 4), id="boxes"),
        pytest.param(lambda d: replace(d, labels=d.labels + 1), id="labels"),
        pytest.param(lambda d: replace(d, scores=d.scores * 0.7), id="scores"),
        pytest.param(lambda d: d[len(d) // 2 :], id="missing"),
    ],
)
def test_wrong_detections_fail(detectors, name: str, allowed: Tolerance, change: Callable[[Any], Any]) -> None:
    found = detectors[name][2]
    check_agreement(found, found, "itself", allowed)
    with pytest.raises(AssertionError):
        check_agreement(found, change(found), "changed", allowed)


def shifted_roi_align(*arguments: Any, **named: Any) -> torch.Tensor:
    """RoIAlign with regions that are half a cell of the finest map off."""
    maps, rois, *more = arguments
    return ops.roi_align_levels(maps, rois + 2 * (torch.arange(5) > 0), *more, **named)


def unsuppressed_peaks(heatmap: torch.Tensor, k: int, tolerance: float = 0.0) -> tuple[torch.Tensor, ...]:
    """The highest cells, whether they are peaks or not."""
    _, _, height, width = heatmap.shape
    scores, at = heatmap.sigmoid().flatten(1).topk(k)
    return scores, at // (height * width), at % (height * width) // width, at % width


def half_a_cell_off(ys: torch.Tensor, xs: torch.Tensor, sizes: torch.Tensor, offsets: torch.Tensor, stride: int) -> Any:
    return ops.decode_centers(ys, xs, sizes, offsets + 0.5, stride)


@pytest.mark.parametrize(
    ("module", "operator", "wrong"),
    [(centernet_decode, "heatmap_peaks", unsuppressed_peaks), (centernet_decode, "decode_centers", half_a_cell_off)],
)
def test_wrong_operators_of_centernet_fail(detectors, monkeypatch, module, operator: str, wrong: Any) -> None:
    model, image, expected = detectors[NAMES[0]]
    monkeypatch.setattr(module, operator, wrong)
    with torch.inference_mode(), pytest.raises(AssertionError):
        check_agreement(expected, model([image])[0], "wrong", EXACT)


def test_wrong_pooling_fails(detectors, monkeypatch) -> None:
    model, image, expected = detectors[NAMES[1]]
    wrong = type("ops", (), {**vars(ops), "roi_align_levels": staticmethod(shifted_roi_align)})
    monkeypatch.setattr(roi_head, "ops", wrong)
    with torch.inference_mode(), pytest.raises(AssertionError):
        check_agreement(expected, model([image])[0], "wrong", EXACT)


def test_missing_suppression_of_faster_rcnn_fails(detectors) -> None:
    model, image, expected = detectors[NAMES[1]]
    model = copy.deepcopy(model)
    model.roi.config = replace(model.roi.config, nms_threshold=1.0)
    with torch.inference_mode(), pytest.raises(AssertionError):
        check_agreement(expected, model([image])[0], "wrong", EXACT)
