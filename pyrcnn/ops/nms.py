"""Greedy non-maximum suppression (NMS): torchvision's two functions, and one with a fixed output shape for batches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InputError, require
from ._register import input_errors, register_fake

_nms = torch.ops.pyrcnn.nms.default
_batched_nms = torch.ops.pyrcnn.batched_nms.default
_nms_padded = torch.ops.pyrcnn.nms_padded.default


@input_errors
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the boxes that remain after greedy suppression, as torchvision's ``nms``.

    Boxes are visited in descending order of score (ties by lower index, NaN scores first, as ``torch.sort`` orders
    them). A box is dropped if its IoU with a box kept before exceeds the threshold. On every device, IoU is
    ``inter / (area_a + area_b - inter)`` in float32 (float64 for float64 boxes), each operation rounded by itself, and
    the threshold is rounded to that type. A pair exactly at the threshold stays, and so does one with a NaN IoU (two
    boxes without area, or a NaN in a box). torchvision's devices differ in this: its CPU compares with the unrounded
    threshold, its GPU multiplies by the threshold instead of dividing.

    Args:
        boxes: [K, 4] x1 y1 x2 y2; float32, float64, float16 or bfloat16; K < 2^31.
        scores: [K], of the same dtype.
        iou_threshold: IoU above which the lower-scored box is dropped.

    Returns:
        [D] int64, in descending order of score. D depends on the data, so on CUDA the call synchronizes with the device
        once; :func:`nms_padded` never does.

    Raises:
        InputError: for wrong shapes, dtypes or devices.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
        >>> nms(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.5)
        tensor([1, 2])
    """
    return _nms(boxes, scores, iou_threshold)


@input_errors
def batched_nms(boxes: Tensor, scores: Tensor | None, idxs: Tensor | None, iou_threshold: float) -> Tensor:
    """Return the indices of the boxes that remain after :func:`nms` within each category.

    Boxes of different categories never suppress each other. Categories are compared as numbers. Coordinates are not
    shifted by category, which would lose precision on large images. :func:`nms_padded` has a fixed output shape.

    Args:
        boxes: [K, 4] x1 y1 x2 y2; float32, float64, float16 or bfloat16; K < 2^31.
        scores: [K], of the same dtype.
        idxs: [K] the category of each box: any integers, or floating-point numbers, of which equal ones are a category.
        iou_threshold: IoU above which the lower-scored box is dropped.

    Returns:
        [D] int64, in descending order of score, ties by lower index.

    Raises:
        InputError: for wrong shapes, dtypes or devices.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [0.0, 0.0, 10.0, 10.0]])
        >>> batched_nms(boxes, torch.tensor([0.8, 0.9, 0.7]), torch.tensor([0, 0, 1]), 0.5)
        tensor([1, 2])
    """
    if scores is None or idxs is None:  # torchvision accepts None if there are no boxes
        require(boxes.numel() == 0, f"{'scores' if scores is None else 'idxs'} must be a tensor, got None")
        for name, t in (("scores", scores), ("idxs", idxs)):
            if t is not None and t.device != boxes.device:
                raise InputError(f"{name} must be on the device of boxes, {boxes.device}, got {t.device}")
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    if idxs.is_floating_point():
        idxs = (idxs.double() + 0.0).view(torch.int64)  # + 0.0 turns -0.0 into 0.0
    return _batched_nms(boxes, scores, idxs, iou_threshold)


@input_errors
def nms_padded(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_output: int,
    groups: Tensor | None = None,
    score_threshold: float = -math.inf,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the boxes that remain after suppression in each image of a batch, as indices of fixed shape and counts.

    In each image, the first ``valid`` boxes with a score above ``score_threshold`` are visited in descending order of
    score (ties by lower index) under the rule of :func:`nms`, until ``max_output`` are kept. Boxes of different
    ``groups`` never suppress each other. Nothing synchronizes with the host, so CUDA graphs can capture the call.

    Args:
        boxes: [N, K, 4] x1 y1 x2 y2; float32, float64, float16 or bfloat16; K < 2^31.
        scores: [N, K], of the same dtype. NaN passes no threshold.
        iou_threshold: IoU above which the lower-scored box is dropped.
        max_output: how many boxes an image may keep.
        groups: [N, K] integers, the group of each box; None for one group per image.
        score_threshold: scores must exceed this, rounded to float32 (float64 for float64 scores).
        valid: [N] integers, how many leading boxes of each image count, clamped to 0..K; None for all.

    Returns:
        indices [N, max_output] int64 in descending order of score, padded with -1, and counts [N] int64.

    Raises:
        InputError: for wrong shapes, dtypes or devices.

    Example:
        >>> boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]]])
        >>> nms_padded(boxes, torch.tensor([[0.8, 0.9, 0.7]]), 0.5, max_output=4)
        (tensor([[ 1,  2, -1, -1]]), tensor([2]))
    """
    return _nms_padded(boxes, scores, iou_threshold, max_output, groups, score_threshold, valid)


def _check(boxes: Tensor, scores: Tensor, batched: bool) -> None:
    wanted = "[N, K, 4]" if batched else "[K, 4]"
    require(boxes.dim() == 2 + batched and boxes.shape[-1] == 4, f"boxes must be {wanted}, got {list(boxes.shape)}")
    require(
        scores.shape == boxes.shape[:-1],
        f"scores must have one number per box of {list(boxes.shape)}, got {list(scores.shape)}",
    )
    require(scores.dtype == boxes.dtype, f"scores must have the dtype of boxes, {boxes.dtype}, got {scores.dtype}")


def _indices_of_unknown_number(boxes: Tensor) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


@register_fake("nms")
def _(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    _check(boxes, scores, batched=False)
    return _indices_of_unknown_number(boxes)


@register_fake("batched_nms")
def _(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    _check(boxes, scores, batched=False)
    require(
        idxs.shape == scores.shape, f"idxs must have the shape of scores, {list(scores.shape)}, got {list(idxs.shape)}"
    )
    return _indices_of_unknown_number(boxes)


@register_fake("nms_padded")
def _(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_output: int,
    groups: Tensor | None,
    score_threshold: float,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor]:
    _check(boxes, scores, batched=True)
    images = boxes.shape[0]
    return boxes.new_empty(images, max_output, dtype=torch.int64), boxes.new_empty(images, dtype=torch.int64)


# Under autocast, boxes and scores may have different dtypes; as in torchvision, both become float32.
for _name in ("pyrcnn::nms", "pyrcnn::batched_nms", "pyrcnn::nms_padded"):
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(_name, _device, torch.float32)
