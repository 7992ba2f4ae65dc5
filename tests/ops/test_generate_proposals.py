"""generate_proposals beyond the contract: ties, levels, filters, memory formats, autograd."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pyrcnn.ops import generate_proposals
from tests.cases.proposals import rpn_inputs

CELL = torch.tensor([[-8.0, -8.0, 8.0, 8.0]])


def one_level(logits: list[float], **changes: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the proposals of a row of 16-pixel boxes side by side with the given logits."""
    n = len(logits)
    inputs = {
        "objectness": [torch.tensor(logits).view(1, 1, 1, n)],
        "deltas": [torch.zeros(1, 4, 1, n)],
        "cell_anchors": [CELL],
        "strides": [16.0],
        "image_sizes": torch.tensor([[16, 16 * n]]),
        "pre_nms_top_n": n,
        "post_nms_top_n": n,
        "nms_threshold": 0.5,
        "offset": 0.5,
    }
    return generate_proposals(**{**inputs, **changes})


def lefts(boxes: Tensor, counts: Tensor) -> list[float]:
    return (boxes[0, : int(counts[0]), 0] / 16).tolist()


def test_order_ties_and_pads() -> None:
    boxes, scores, counts = one_level([0.0, 2.0, -1.0, 2.0], post_nms_top_n=6)
    assert lefts(boxes, counts) == [1, 3, 0, 2]
    torch.testing.assert_close(scores[0, :4], torch.tensor([2.0, 2.0, 0.0, -1.0]).sigmoid())
    assert boxes[0, 4:].eq(0).all()
    assert scores[0, 4:].eq(0).all()


def test_pre_nms_top_n_takes_the_lower_index_of_equals() -> None:
    boxes, _, counts = one_level([1.0] * 5, pre_nms_top_n=3)
    assert lefts(boxes, counts) == [0, 1, 2]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_many_equal_logits_keep_the_order_of_indices(layout: torch.memory_format) -> None:
    """There are many more equal logits than one block holds; in NCHW, the anchors of a cell are far apart."""
    n, per_cell = 70, 3
    logits = torch.zeros(1, per_cell, n, n).contiguous(memory_format=layout)
    deltas = torch.zeros(1, 4 * per_cell, n, n).contiguous(memory_format=layout)
    cells = torch.tensor([[-1.0 - a, -1.0, 1.0, 1.0] for a in range(per_cell)])
    boxes, _, counts = generate_proposals(
        [logits], [deltas], [cells], [4.0], torch.tensor([[400, 400]]), 7, 7, 0.99, offset=2.0
    )
    assert counts.tolist() == [7]
    assert boxes[0, :, 0].tolist() == [7, 6, 5, 11, 10, 9, 15]


def test_not_a_number_and_infinity_are_dropped() -> None:
    boxes, scores, counts = one_level([math.nan, 1.0, math.inf, -math.inf, 0.0], pre_nms_top_n=2)
    assert lefts(boxes, counts) == [1, 4]
    assert scores.isfinite().all()
    deltas = torch.zeros(1, 4, 1, 3)
    deltas[0, 0, 0, 0], deltas[0, 3, 0, 2] = math.inf, math.nan
    boxes, _, counts = one_level([3.0, 2.0, 1.0], deltas=[deltas])
    assert lefts(boxes, counts) == [1]


def test_min_size_is_inclusive() -> None:
    assert one_level([1.0, 1.0], min_size=16.0)[2].tolist() == [2]
    assert one_level([1.0, 1.0], min_size=16.001)[2].tolist() == [0]
    # the second box is clipped to 8 pixels
    assert one_level([1.0, 1.0], min_size=8.5, image_sizes=torch.tensor([[16, 24]]))[2].tolist() == [1]


def test_levels_do_not_suppress_each_other_and_share_the_output() -> None:
    level = torch.tensor([[[[2.0, 1.0]]]])
    still = torch.zeros(1, 4, 1, 2)
    boxes, scores, counts = generate_proposals(
        [level, level + 0.5],
        [still, still],
        [CELL, CELL],
        [16.0, 16.0],
        torch.tensor([[32, 32]]),
        9,
        3,
        0.1,
        offset=0.5,
    )
    assert counts.tolist() == [3]
    torch.testing.assert_close(scores[0], torch.tensor([2.5, 2.0, 1.5]).sigmoid())
    assert boxes[0, :, 0].tolist() == [0, 0, 16]


def test_equal_scores_of_two_levels_go_by_level() -> None:
    level, still = torch.full((1, 1, 1, 1), 40.0), torch.zeros(1, 4, 1, 1)  # sigmoid is 1 for both
    boxes, _, _ = generate_proposals(
        [level, level + 5], [still, still], [CELL, 2 * CELL], [16.0, 16.0], torch.tensor([[64, 64]]), 1, 2, 0.5
    )
    assert boxes[0, :, 2].tolist() == [8, 16]


def test_slices_of_a_joint_head_are_read_in_place(generator: torch.Generator) -> None:
    shape = {"images": 2, "levels": [(9, 11, 3)], "pre": 90, "post": 80}
    inputs = rpn_inputs(generator, torch.device("cpu"), torch.float32, shape)
    expected = generate_proposals(**inputs)
    for layout in (torch.contiguous_format, torch.channels_last):
        joint = torch.cat([inputs["objectness"][0], inputs["deltas"][0]], 1).contiguous(memory_format=layout)
        got = generate_proposals(**{**inputs, "objectness": [joint[:, :3]], "deltas": [joint[:, 3:]]})
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a, b)


def test_two_strides_per_level_and_any_number_dtype(generator: torch.Generator) -> None:
    shape = {"images": 2, "levels": [(6, 7, 2)], "pre": 50, "post": 40}
    inputs = rpn_inputs(generator, torch.device("cpu"), torch.float32, shape)
    expected = generate_proposals(**inputs)
    for dtype in (torch.int32, torch.int64, torch.float64, torch.float16):
        sizes = inputs["image_sizes"].to(dtype)
        for a, b in zip(
            generate_proposals(**{**inputs, "image_sizes": sizes, "strides": [(4, 4)]}), expected, strict=True
        ):
            assert torch.equal(a, b)
    wide = generate_proposals(**{**inputs, "strides": [(4.0, 8.0)], "image_sizes": inputs["image_sizes"] * 2})
    assert not torch.equal(wide[0], expected[0])


def test_nothing_requires_grad(generator: torch.Generator) -> None:
    inputs = rpn_inputs(
        generator, torch.device("cpu"), torch.float32, {"images": 1, "levels": [(4, 4, 3)], "pre": 9, "post": 9}
    )
    for name in ("objectness", "deltas"):
        inputs[name] = [t.requires_grad_() for t in inputs[name]]
    assert not any(t.requires_grad for t in generate_proposals(**inputs))


@pytest.mark.parametrize(("share", "wanted"), [(1.0, 400), (0.5, 400), (0.02, 400), (1.0, 3000)])
def test_selection_from_many_is_exact(generator: torch.Generator, share: float, wanted: int) -> None:
    """Large maps use a threshold from a sample; here most logits are far below the best, or NaN."""
    logits = torch.randn(1, 3, 90, 90, generator=generator) * 3
    logits[torch.rand(logits.shape, generator=generator) > share] = math.nan
    order = logits.permute(0, 2, 3, 1).reshape(-1).nan_to_num(-math.inf).argsort(descending=True, stable=True)
    boxes, scores, counts = generate_proposals(
        [logits],
        [torch.zeros(1, 12, 90, 90)],
        [torch.tensor([[-1.0 - a, -1.0, 1.0, 1.0] for a in range(3)])],
        [8.0],
        torch.tensor([[800, 800]]),
        wanted,
        wanted,
        0.99,
        offset=1.0,
    )
    n = int(counts[0])
    assert n == min(wanted, int((~logits.isnan()).sum()))
    torch.testing.assert_close(boxes[0, :n, 0], (order[:n] // 3 % 90 + 1) * 8.0 - 1 - order[:n] % 3)
    assert (scores[0, 1:n] <= scores[0, : n - 1]).all()
