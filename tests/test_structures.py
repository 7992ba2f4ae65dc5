"""Targets and Detections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pyrcnn import Detections, InputError, Targets


@pytest.fixture
def found() -> Detections:
    boxes = torch.arange(12.0).reshape(3, 4)
    return Detections(
        boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([2, 0, 1]), torch.arange(18.0).reshape(3, 2, 3)
    )


@pytest.mark.parametrize(
    ("index", "wanted"),
    [(slice(2), [2, 0]), (torch.tensor([True, False, True]), [2, 1]), (torch.tensor([1, 0]), [0, 2]), ([2], [1]),
     (1, [0]), (-1, [1]), (-3, [2]), (np.int64(2), [1])],
)  # fmt: skip
def test_an_index_selects_from_every_field(found: Detections, index: Any, wanted: list[int]) -> None:
    part = found[index]
    assert part.labels.tolist() == wanted
    assert len(part) == len(wanted)
    assert (part.boxes.shape, part.keypoints.shape) == ((len(part), 4), (len(part), 2, 3))


@pytest.mark.parametrize("index", [3, -4])
def test_past_the_end_is_an_error(found: Detections, index: int) -> None:
    with pytest.raises(IndexError):
        found[index]


def test_a_loop_ends(found: Detections) -> None:
    assert [one.labels.tolist() for one, _ in zip(found, range(10), strict=False)] == [[2], [0], [1]]


def test_detections_move_together(found: Detections) -> None:
    arrays = found.to("cpu").numpy()
    assert {name: value.shape for name, value in arrays.items()} == {
        "boxes": (3, 4), "scores": (3,), "labels": (3,), "keypoints": (3, 2, 3)}  # fmt: skip
    assert "keypoints" not in Detections(found.boxes.bfloat16(), found.scores, found.labels).numpy()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [[0.0, 0.0, 1.0, 1.0]]}, "boxes must be a tensor"),
        ({"boxes": torch.zeros(2, 5)}, r"boxes must be \[G, 4\], got \[2, 5\]"),
        ({"boxes": torch.zeros(2, 4, dtype=torch.int64)}, "boxes must be floating point"),
        ({"labels": [0, 1]}, "labels must be a tensor, got list"),
        ({"labels": None}, "labels must be a tensor, got NoneType"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels must be \[2\], got \[3\]"),
        ({"labels": torch.zeros(2)}, "labels must be integers"),
        ({"keypoints": [0]}, "keypoints must be a tensor, got list"),
        ({"keypoints": torch.zeros(2, 17, 2)}, r"keypoints must be \[2, J, 3\]"),
        ({"crowd": [False, True]}, "crowd must be a tensor, got list"),
        ({"crowd": torch.zeros(3, dtype=torch.bool)}, r"crowd must be \[2\], got \[3\]"),
    ],
)
def test_bad_targets_are_named(changes: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {
        "boxes": torch.tensor([[0.0, 0.0, 2.0, 3.0]] * 2),
        "labels": torch.zeros(2, dtype=torch.int64),
    }
    assert len(Targets(**right)) == 2
    with pytest.raises(InputError, match=f"^{message}"):
        Targets(**(right | changes))


GOOD = [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    "box",
    [[50.0, 60.0, 10.0, 10.0], [3.0, 2.0, 1.0, 4.0], [1.0, 4.0, 3.0, 2.0], [1.0, 2.0, 1.0, 4.0], [1.0, 2.0, 3.0, 2.0],
     [0.0] * 4, [float("nan"), 2.0, 3.0, 4.0], [1.0, 2.0, float("inf"), 4.0], [-float("inf"), 2.0, 3.0, 4.0]],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_boxes_without_positive_sides_are_refused(box: list[float], dtype: torch.dtype) -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(InputError, match=r"^boxes must be finite x1, y1, x2, y2 with x2 > x1 and y2 > y1, .* in row 1"):
        Targets(torch.tensor([GOOD, box], dtype=dtype), labels)
    crowd = torch.tensor([False, True])
    assert len(Targets(torch.tensor([GOOD, box], dtype=dtype), labels, crowd=crowd)) == 2  # training ignores it


def test_no_box_and_boxes_with_gradients_are_fine() -> None:
    none = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 17, 3))
    assert len(none.to("cpu")) == 0
    boxes = torch.tensor([GOOD], requires_grad=True)
    assert Targets(boxes * 2, torch.tensor([0])).boxes.requires_grad
