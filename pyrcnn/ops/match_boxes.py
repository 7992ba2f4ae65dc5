"""Assigns ground truth to anchors for training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import require
from ._register import input_errors, no_gradient, register_fake

_op = torch.ops.pyrcnn.match_boxes.default


class Matches(NamedTuple):
    """The result of :func:`match_boxes`, one entry per anchor: [N, K], or [K] for one image.

    Attributes:
        indices: int64, the ground truth with the highest IoU (the lowest index among equals); 0 if none overlaps.
        states: int8, 1 foreground, 0 background, -1 ignored.
        ious: float32 (float64 for float64 boxes), that IoU; 0 if none overlaps.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
        >>> matches = match_boxes(boxes, boxes, high=0.7, low=0.3)
        >>> matches.indices[matches.states == 1]
        tensor([0])
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
    """Match anchors or proposals to ground truth, without storing the G x K matrix of IoUs.

    An anchor is foreground if its highest IoU is at least ``high``, background if it is below ``low`` or the image has
    no ground truth, and ignored otherwise. With ``allow_low_quality``, the anchors that reach the highest IoU of a
    ground truth are foreground as well, equal ones included. Each keeps the index of *its own* best ground truth, as in
    torchvision and detectron2 (Ren et al. 2015, section 3.1.2, (i)). A ground truth that overlaps no anchor has no such
    anchors; in torchvision and detectron2 it would have all that it does not overlap.

    IoUs are computed in float32 (float64 for float64 boxes) in torchvision's order of operations, so the result equals
    that of ``box_iou`` and ``max``. It is the same in every run. NaN coordinates exclude an anchor: it becomes
    background and is no ground truth's best.

    Args:
        anchors: [K, 4], shared by all images, or [N, K, 4]; x1 y1 x2 y2, any floating-point dtype.
        ground_truth: [N, G, 4], or [G, 4] for one image with anchors [K, 4].
        high: the least IoU of a foreground anchor.
        low: IoUs below this are background.
        allow_low_quality: see above.
        counts: [N] int64, how many leading boxes of each image's ground truth are real; None for all.
        crowd: [N, G] (or [G]) bool, COCO's crowd boxes: they are never matched, and background anchors with more than
            ``crowd_threshold`` of their area in one are ignored.
        crowd_threshold: a fraction of an anchor's area.

    Returns:
        :class:`Matches` of [N, K], or of [K] for one image, without a gradient.

    Raises:
        InputError: for shapes that do not fit, and for ``low > high``.

    Example:
        >>> anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [40.0, 40.0, 50.0, 50.0]])
        >>> match_boxes(anchors, torch.tensor([[0.0, 0.0, 8.0, 9.0]]), high=0.7, low=0.3).states
        tensor([1, 0], dtype=torch.int8)
    """
    single = ground_truth.ndim == 2
    if single:
        require(anchors.ndim == 2, f"anchors must be [K, 4] with ground_truth [G, 4], got {list(anchors.shape)}")
        require(counts is None, "counts must be None with ground_truth [G, 4] of one image, got a tensor")
        ground_truth = ground_truth[None]
        crowd = None if crowd is None else crowd[None]
    if anchors.dtype != ground_truth.dtype:
        both = torch.promote_types(anchors.dtype, ground_truth.dtype)
        anchors, ground_truth = anchors.to(both), ground_truth.to(both)
    indices, states, ious = _op(anchors, ground_truth, counts, crowd, high, low, allow_low_quality, crowd_threshold)
    return Matches(indices[0], states[0], ious[0]) if single else Matches(indices, states, ious)


@register_fake("match_boxes")
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
