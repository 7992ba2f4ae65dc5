"""CenterNet's keypoints: regressed joints moved to the peaks of the joints' own maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..errors import require
from ._register import input_errors, no_gradient

_op = torch.ops.pyrcnn.match_keypoints.default

Ranking = Literal["distance", "score_by_distance", "score_by_scaled_distance", "gaussian"]
_RANKINGS = ("distance", "score_by_distance", "score_by_scaled_distance", "gaussian")
_DISTANCE_OFFSETS = (0.0, 1.0, 0.1, 0.0)


@input_errors
def match_keypoints(
    ys: Tensor,
    xs: Tensor,
    heatmap: Tensor,
    regression: Tensor,
    offset: Tensor,
    boxes: Tensor | None,
    stride: float,
    image_sizes: Tensor | None = None,
    candidates: int = 100,
    kernel: int = 3,
    sigmoid: bool = True,
    tolerance: float = 0.0,
    ranking: Ranking = "distance",
    distance_offset: float | None = None,
    spreads: Sequence[float] = (),
    score_threshold: float = 0.1,
    box_scale: float = 1.2,
    max_distance: float = 0.3,
    unmatched_score: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """The J joints of the detections centred in the cells ``ys``, ``xs`` [N, k] (Zhou et al. 2019, section 4).

    A joint is regressed: the cell plus ``regression`` there. Candidates are the ``candidates`` best peaks of the
    joint's own map (:func:`heatmap_peaks` with ``kernel``, ``sigmoid``, ``tolerance``) with a score of at least
    ``score_threshold``, moved by ``offset``. The best candidate replaces the regressed joint and gives it its score,
    unless it lies outside the detection's box scaled by ``box_scale`` about its centre, or the nearest candidate is
    farther away than ``max_distance`` times the scaled box's longer side. Otherwise the regressed joint stays, with
    ``unmatched_score``. Several detections may share a candidate.

    Args:
        ys, xs: int64 cells, as :func:`heatmap_peaks` gives them.
        heatmap: [N, J, H, W], logits unless ``sigmoid`` is false.
        regression: [N, 2J, H, W], (y, x) pairs in cells from the centre's cell.
        offset: [N, 2J, H, W], a (y, x) pair per joint, or [N, 2, H, W], shared; in cells.
        boxes: [N, k, 4] in input pixels as :func:`decode_centers` gives them, float32 (float64 for float64 maps), or
            None: no box and no distance limits the candidates.
        stride: input pixels per cell.
        image_sizes: [N, 2] (height, width) in input pixels: clip joints to it and give those outside score 0.
        ranking: which candidate is best: the nearest; the highest score / (distance + ``distance_offset``); the same
            with ``distance_offset`` times the box's longer side; or the highest score * exp(-distance² / (2 sigma²)),
            which is also the joint's score, where sigma is that of the box's target Gaussian times ``spreads``.
        distance_offset: 1 cell by default, 0.1 of the box's side for ``"score_by_scaled_distance"``.
        spreads: J factors, for ``"gaussian"`` only; at most 256 of them on CUDA.

    Returns:
        keypoints [N, k, J, 2] (x, y in input pixels) and scores [N, k, J], float32 (float64 for float64 maps), without
        a gradient.

    Example:
        >>> cell, heatmap = torch.tensor([[1]]), torch.full((1, 1, 4, 4), -9.0)
        >>> heatmap[0, 0, 2, 2] = 9.0
        >>> maps = torch.full((1, 2, 4, 4), 0.5)
        >>> boxes = torch.tensor([[[0.0, 0.0, 16.0, 16.0]]])
        >>> match_keypoints(cell, cell, heatmap, maps, maps, boxes, stride=4)[0]
        tensor([[[[10., 10.]]]])
    """
    require(ranking in _RANKINGS, f"ranking must be one of {_RANKINGS}, got {ranking!r}")
    mode = _RANKINGS.index(ranking)
    addend = _DISTANCE_OFFSETS[mode] if distance_offset is None else distance_offset
    return _op(
        *(ys, xs, heatmap, regression, offset, boxes, stride, image_sizes, candidates, kernel, sigmoid, tolerance),
        *(mode, addend, list(spreads), score_threshold, box_scale, max_distance, unmatched_score),
    )


@torch.library.register_fake("pyrcnn::match_keypoints")
def _(ys: Tensor, xs: Tensor, heatmap: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if heatmap.dtype == torch.float64 else torch.float32
    sizes = (ys.shape[0], ys.shape[1], heatmap.shape[1])
    return heatmap.new_empty((*sizes, 2), dtype=dtype), heatmap.new_empty(sizes, dtype=dtype)


no_gradient("match_keypoints")
