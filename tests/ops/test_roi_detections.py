"""roi_detections beyond the contract: thresholds, ties, classes, chunks of candidates."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pyrcnn.ops import roi_detections
from tests.cases.proposals import roi_inputs
from tests.reference import proposals as reference


def detect(logits: list[list[float]], lefts: list[float], **changes: Any) -> tuple[Tensor, ...]:
    """Return the detections for class logits of 10-pixel boxes at the given left edges, with zero deltas."""
    n = len(logits)
    boxes = torch.tensor([[x, 0.0, x + 10, 10.0] for x in lefts]).view(1, n, 4)
    inputs = {
        "class_logits": torch.tensor(logits).view(1, n, -1),
        "box_deltas": torch.zeros(1, n, 4),
        "proposals": boxes,
        "counts": torch.tensor([n]),
        "image_sizes": torch.tensor([[100, 100]]),
        "max_detections": 6,
    }
    return roi_detections(**{**inputs, **changes})


def test_classes_do_not_suppress_each_other() -> None:
    boxes, scores, labels, counts = detect([[0.0, 5.0, 4.0], [0.0, 4.0, 5.0]], [0.0, 1.0])
    assert counts.tolist() == [2]
    assert labels.tolist() == [[0, 1, -1, -1, -1, -1]]
    assert boxes[0, :2, 0].tolist() == [0, 1]
    torch.testing.assert_close(scores[0, :2], torch.tensor([[0.0, 5.0, 4.0]]).softmax(1)[0, 1].expand(2))
    assert scores[0, 2:].eq(0).all()
    assert boxes[0, 2:].eq(0).all()


def test_equal_scores_go_by_row_then_class() -> None:
    _, _, labels, _ = detect([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]], [0.0, 50.0])
    assert labels[0, :4].tolist() == [0, 1, 0, 1]
    boxes, _, labels, counts = detect([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]], [50.0, 0.0], max_detections=3)
    assert counts.tolist() == [3]
    assert boxes[0, :, 0].tolist() == [50, 50, 0]
    assert labels.tolist() == [[0, 1, 0]]


def test_the_score_threshold_is_strict() -> None:
    assert detect([[1.0, 1.0]], [0.0], score_threshold=0.5)[3].tolist() == [0]
    assert detect([[1.0, 1.0]], [0.0], score_threshold=0.4999)[3].tolist() == [1]
    assert detect([[0.0, -200.0]], [0.0], score_threshold=0.0)[3].tolist() == [0]  # exp(-200) is 0 in float32
    assert detect([[0.0, -math.inf]], [0.0], score_threshold=-0.1)[3].tolist() == [1]


def test_the_background_may_be_last() -> None:
    _, _, labels, counts = detect([[0.0, 5.0, 9.0]], [0.0], background_first=False, score_threshold=0.01)
    assert counts.tolist() == [1]
    assert labels[0, 0] == 1


@pytest.mark.parametrize("background_first", [True, False])
def test_three_shapes_of_deltas(generator: torch.Generator, background_first: bool) -> None:
    shape = {"images": 2, "rows": 30, "classes": 4, "width": 16, "most": 50, "background_first": background_first}
    inputs = roi_inputs(generator, torch.device("cpu"), torch.float32, shape)
    expected = roi_detections(**inputs)
    junk = torch.full((2, 30, 4), math.nan)
    parts = [junk, inputs["box_deltas"]] if background_first else [inputs["box_deltas"], junk]
    for a, b in zip(roi_detections(**{**inputs, "box_deltas": torch.cat(parts, 2)}), expected, strict=True):
        assert torch.equal(a, b)
    shared = inputs["box_deltas"][..., :4]
    for a, b in zip(
        roi_detections(**{**inputs, "box_deltas": shared}),
        roi_detections(**{**inputs, "box_deltas": shared.repeat(1, 1, 4)}),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_padding_rows_are_never_read(generator: torch.Generator) -> None:
    shape = {"images": 3, "rows": 50, "classes": 3, "width": 12, "most": 40}
    inputs = roi_inputs(generator, torch.device("cpu"), torch.float32, shape)
    expected = roi_detections(**inputs)
    for image, count in enumerate(inputs["counts"].tolist()):
        for name in ("class_logits", "box_deltas", "proposals"):
            inputs[name][image, count:] = 7e30
    for a, b in zip(roi_detections(**inputs), expected, strict=True):
        assert torch.equal(a, b)


def test_rows_with_nan_and_boxes_that_are_not_finite_are_dropped() -> None:
    assert detect([[math.nan, 9.0], [0.0, math.inf], [0.0, 9.0]], [0.0, 20.0, 40.0])[3].tolist() == [1]
    deltas = torch.zeros(1, 2, 4)
    deltas[0, 0, 2] = math.nan
    boxes, _, _, counts = detect([[0.0, 9.0], [0.0, 8.0]], [0.0, 1.0], box_deltas=deltas)
    assert counts.tolist() == [1]
    assert boxes[0, 0, 0] == 1  # the dropped box has the higher score, but suppresses nothing


def test_thin_boxes_are_dropped_before_suppression() -> None:
    assert detect([[0.0, 9.0]], [99.995])[3].tolist() == [0]
    assert detect([[0.0, 9.0]], [99.995], min_size=0.0)[3].tolist() == [1]


def test_max_per_class() -> None:
    _, _, labels, counts = detect([[0.0, 3.0, 2.0]] * 3, [0.0, 30.0, 60.0], max_per_class=1)
    assert counts.tolist() == [2]
    assert labels[0, :2].tolist() == [0, 1]


@pytest.mark.parametrize("most", [3, 700, 5000])
def test_more_candidates_than_are_sorted_at_first(generator: torch.Generator, most: int) -> None:
    """1,800 candidates, many with equal scores; they overlap so much that several rounds are needed."""
    shape = {"images": 1, "rows": 300, "classes": 6, "width": 4, "most": most, "threshold": 0.0}
    inputs = roi_inputs(generator, torch.device("cpu"), torch.float64, shape)
    for name in ("class_logits", "box_deltas"):
        inputs[name][:, 150:] = inputs[name][:, :150]  # equal scores
    for name, got, want in zip("bslc", roi_detections(**inputs), reference.roi_detections(**inputs), strict=True):
        torch.testing.assert_close(got, want, msg=lambda text, name=name: f"{name}: {text}")


def test_many_equal_boxes_before_one_more_is_kept(generator: torch.Generator) -> None:
    """Of 20,000 candidates in 40 classes, most are copies of the first rows and suppressed, so that the last kept boxes
    come thousands of candidates after the others."""
    rows, classes = 500, 40
    logits = torch.randn(1, rows, classes + 1, generator=generator)
    logits[:, -2:] -= 9.0
    lefts = torch.zeros(rows)
    lefts[-2:] = torch.tensor([30.0, 60.0])
    boxes, scores, labels, counts = detect(logits[0].tolist(), lefts.tolist(), score_threshold=0.0, max_detections=999)
    assert counts.tolist() == [3 * classes]
    expected = torch.cat([logits.softmax(2)[0, part, 1:].amax(0) for part in (slice(0, -2), [-2], [-1])])
    order = expected.argsort(descending=True, stable=True)
    torch.testing.assert_close(scores[0, : 3 * classes], expected[order])
    assert torch.equal(labels[0, : 3 * classes], order % classes)
    assert torch.equal(boxes[0, : 3 * classes, 0], order.div(classes, rounding_mode="floor") * 30.0)


def test_many_equal_scores_go_by_row_then_class() -> None:
    """6,000 candidates with equal scores, of which a sample gives no threshold."""
    rows, classes = 150, 40
    boxes, _, labels, counts = detect(
        [[0.0] * (classes + 1)] * rows,
        [20.0 * row for row in range(rows)],
        score_threshold=0.0,
        max_detections=5500,
        image_sizes=torch.tensor([[100, 4000]]),
    )
    assert counts.tolist() == [5500]
    order = torch.arange(5500)
    assert torch.equal(labels[0], order % classes)
    assert torch.equal(boxes[0, :, 0], order.div(classes, rounding_mode="floor") * 20.0)


def test_low_precision_logits_with_float32_boxes(generator: torch.Generator) -> None:
    shape = {"images": 1, "rows": 40, "classes": 3, "width": 12, "most": 20}
    inputs = roi_inputs(generator, torch.device("cpu"), torch.float32, shape)
    inputs["class_logits"] = inputs["class_logits"].bfloat16()
    expected = roi_detections(**{**inputs, "class_logits": inputs["class_logits"].float()})
    for a, b in zip(roi_detections(**inputs), expected, strict=True):
        assert torch.equal(a, b)


def test_nothing_requires_grad(generator: torch.Generator) -> None:
    shape = {"images": 1, "rows": 4, "classes": 3, "width": 12, "most": 2}
    inputs = roi_inputs(generator, torch.device("cpu"), torch.float32, shape)
    inputs["class_logits"].requires_grad_(), inputs["box_deltas"].requires_grad_()
    assert not any(t.requires_grad for t in roi_detections(**inputs))
