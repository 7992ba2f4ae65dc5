"""Assigning ground truth to anchors for training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import require
from ._register import input_errors, no_gradient

_op = torch.ops.pyrcnn.match_boxes.default


class Matches(NamedTuple):
    """What :func:`match_boxes` found, per anchor.

    ``indices`` int64: the ground truth with the greatest IoU, the lowest index among equals, and 0 where nothing
    overlaps, so that it can always be gathered with; ``states`` int8: 1 foreground, 0 background, -1 ignored; ``ious``
    float32 (or float64): that greatest IoU, 0 where nothing overlaps.
    """

    indices: Tensor
    states: Tensor
    ious: Tensor


@input_errors
def match_boxes(
    anchors: Tensor,
    ground_truth: Tensor,
    high: float,
    low: float,
    allow_low_quality: bool = False,
    counts: Tensor | None = None,
    crowd: Tensor | None = None,
    crowd_threshold: float = 0.7,
) -> Matches:
    """Match anchors (or proposals) to ground truth without ever holding the G x M matrix of IoUs.

    ``ground_truth`` [N, G, 4], of which the first ``counts`` [N] int64 of every image are real (None: all), and
    ``anchors`` [M, 4], shared by all images, or [N, M, 4] give results of [N, M]; ``ground_truth`` [G, 4] and
    ``anchors`` [M, 4] results of [M]. An anchor is foreground when its best IoU is at least ``high``, background when
    it is below ``low`` (or the image has no ground truth), else ignored. With ``allow_low_quality`` every ground truth
    also claims the anchors that reach its own best IoU, equals included: these become foreground too, each still with
    the index of *its own* best ground truth, as torchvision's and detectron2's matchers do (Ren et al. 2015, section
    3.1.2, (i)). A ground truth that no anchor overlaps claims none (theirs would claim every anchor that it does not
    overlap).

    ``crowd`` [N, G] (or [G]) bool marks COCO's crowd boxes: they are never matched, and background anchors of which
    more than ``crowd_threshold`` of the area lies in one are ignored. To leave anchors out of the matching, make their
    coordinates NaN: a NaN IoU exceeds nothing, so they are background and no ground truth's best.

    IoUs are computed in float32 (float64 for float64 boxes) in torchvision's order of operations, so the result is the
    one of ``box_iou`` and ``max``. Equal results on every run. Raises :class:`pyrcnn.InputError` for shapes that do not
    fit and for ``low > high``.

    >>> anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [40.0, 40.0, 50.0, 50.0]])
    >>> match_boxes(anchors, torch.tensor([[0.0, 0.0, 8.0, 9.0]]), high=0.7, low=0.3).states
    tensor([1, 0], dtype=torch.int8)
    """
    single = ground_truth.ndim == 2
    if single:
        require(anchors.ndim == 2, f"anchors must be [M, 4] as ground_truth is [G, 4], got {list(anchors.shape)}")
        require(counts is None, "counts must be None for the ground_truth [G, 4] of a single image")
        ground_truth = ground_truth[None]
        crowd = None if crowd is None else crowd[None]
    if anchors.dtype != ground_truth.dtype:
        both = torch.promote_types(anchors.dtype, ground_truth.dtype)
        anchors, ground_truth = anchors.to(both), ground_truth.to(both)
    indices, states, ious = _op(anchors, ground_truth, counts, crowd, high, low, allow_low_quality, crowd_threshold)
    return Matches(indices[0], states[0], ious[0]) if single else Matches(indices, states, ious)


@torch.library.register_fake("pyrcnn::match_boxes")
def _(
    anchors: Tensor,
    ground_truth: Tensor,
    counts: Tensor | None,
    crowd: Tensor | None,
    high: float,
    low: float,
    allow_low_quality: bool,
    crowd_threshold: float,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (ground_truth.shape[0], anchors.shape[-2])
    ious = torch.float64 if ground_truth.dtype == torch.float64 else torch.float32
    return (
        ground_truth.new_empty(shape, dtype=torch.int64),
        ground_truth.new_empty(shape, dtype=torch.int8),
        ground_truth.new_empty(shape, dtype=ious),
    )


no_gradient("match_boxes")
