"""CenterNet's keypoints: regressed keypoints, moved to peaks of the keypoints' heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..errors import require
from ._register import input_errors, no_gradient, register_fake
from ._types import listed

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
    """Return the J keypoints of the detections centred in the cells ``ys``, ``xs`` (Zhou et al. 2019, section 4).

    A regressed keypoint is the cell plus ``regression`` there. Its candidates are the ``candidates`` best peaks of the
    keypoint's heatmap (:func:`heatmap_peaks` with ``kernel``, ``sigmoid``, ``tolerance``) with a score of at least
    ``score_threshold``, moved by ``offset``. The best candidate replaces the regressed keypoint and gives it its score,
    unless it lies outside the detection's box, scaled by ``box_scale`` about its centre, or the nearest candidate is
    farther away than ``max_distance`` times the scaled box's longer side. Otherwise the regressed keypoint remains,
    with ``unmatched_score``. Several detections may share a candidate.

    Args:
        ys, xs: [N, k] int64 cells, from :func:`heatmap_peaks`.
        heatmap: [N, J, H, W] logits, or scores if ``sigmoid`` is False; any floating-point dtype.
        regression: [N, 2J, H, W], (y, x) pairs in cells from the centre's cell.
        offset: [N, 2J, H, W], a (y, x) pair per keypoint, or [N, 2, H, W], shared; in cells.
        boxes: [N, k, 4] in input pixels, from :func:`decode_centers`; float32 (float64 for float64 maps). None: neither
            a box nor a distance limits the candidates.
        stride: input pixels per cell.
        image_sizes: [N, 2] (height, width) in input pixels: clip keypoints to the image and give those outside score 0.
        candidates: how many peaks of a heatmap are candidates.
        kernel, sigmoid, tolerance: as in :func:`heatmap_peaks`.
        ranking: which candidate is best. ``"distance"``: the nearest. ``"score_by_distance"``: the highest score /
            (distance + ``distance_offset``). ``"score_by_scaled_distance"``: the same with ``distance_offset`` times
            the box's longer side. ``"gaussian"``: the highest score * exp(-distance² / (2 sigma²)), which is also the
            keypoint's score; sigma is that of the box's target Gaussian times ``spreads``.
        distance_offset: by default 1 cell, or 0.1 of the box's side for ``"score_by_scaled_distance"``.
        spreads: J factors, for ``"gaussian"`` only; at most 256 on CUDA.
        score_threshold: the least score of a candidate.
        box_scale: scales the box that candidates must lie in.
        max_distance: a fraction of the scaled box's longer side.
        unmatched_score: the score of a keypoint without a candidate.

    Returns:
        keypoints [N, k, J, 2] (x, y in input pixels) and scores [N, k, J], float32 (float64 for float64 maps), without
        a gradient.

    Raises:
        InputError: for wrong shapes, dtypes or devices, or an unknown ranking.

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
        *(mode, addend, listed("spreads", spreads), score_threshold, box_scale, max_distance, unmatched_score),
    )


@register_fake("match_keypoints")
def _(ys: Tensor, xs: Tensor, heatmap: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if heatmap.dtype == torch.float64 else torch.float32
    sizes = (ys.shape[0], ys.shape[1], heatmap.shape[1])
    return heatmap.new_empty((*sizes, 2), dtype=dtype), heatmap.new_empty(sizes, dtype=dtype)


no_gradient("match_keypoints")
