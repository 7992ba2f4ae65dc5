"""Box functions with torchvision's names, arguments and results, in plain torch except :func:`box_iou`.

A box format ``fmt`` is ``"xyxy"`` (two corners), ``"xywh"`` (a corner and the size) or ``"cxcywh"`` (the centre and the
size); torchvision's rotated formats are not supported. Boxes are [..., 4] of any dtype. Areas and products are computed
in at least float32 or int32. Unknown formats and wrong shapes raise :class:`pyrcnn.InputError`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import require
from ._register import input_errors
from .box_iou import FORMATS, check_boxes, check_pair, intersection_and_union, positive_area, upcast
from .box_iou import box_area as box_area
from .box_iou import box_iou as box_iou
from .nms import batched_nms as batched_nms  # torchvision.ops.boxes has these too
from .nms import nms as nms


@input_errors
def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """Return boxes [..., 4] converted from the format ``in_fmt`` to ``out_fmt``; a copy if both are the same.

    Args:
        boxes: [..., 4], any dtype.
        in_fmt, out_fmt: ``"xyxy"``, ``"xywh"`` or ``"cxcywh"``.

    Raises:
        InputError: for an unknown format or another shape.

    Example:
        >>> box_convert(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), "xyxy", "cxcywh")
        tensor([[2., 1., 4., 2.]])
    """
    known = in_fmt in FORMATS and out_fmt in FORMATS
    require(known, f"in_fmt and out_fmt must be of {FORMATS}, got {in_fmt!r} and {out_fmt!r}. Unsupported conversion")
    if in_fmt == out_fmt:
        return boxes.clone()
    a, b, c, d = check_boxes(boxes).unbind(-1)
    if in_fmt == "xywh":
        c, d = a + c, b + d
    elif in_fmt == "cxcywh":
        a, b, c, d = a - 0.5 * c, b - 0.5 * d, a + 0.5 * c, b + 0.5 * d
    if out_fmt == "xywh":
        c, d = c - a, d - b
    elif out_fmt == "cxcywh":
        a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
    return torch.stack((a, b, c, d), dim=-1)


@input_errors
def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return the generalized IoU [..., K1, K2], from -1 to 1 (Rezatofighi et al. 2019).

    It is the IoU minus the share of the smallest enclosing box that neither box covers.

    Args:
        boxes1: [..., K1, 4], xyxy.
        boxes2: [..., K2, 4], xyxy; the leading dimensions broadcast.

    Returns:
        [..., K1, K2], float32 for float16 and bfloat16; NaN for two boxes at one point without area.

    Raises:
        InputError: for shapes that do not fit.

    Example:
        >>> generalized_box_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[2.0, 0.0, 4.0, 2.0]]))
        tensor([[0.]])
    """
    intersection, union = intersection_and_union(boxes1, boxes2)
    low = torch.min(boxes1[..., :, None, :2], boxes2[..., None, :, :2])
    high = torch.max(boxes1[..., :, None, 2:], boxes2[..., None, :, 2:])
    hull = positive_area(high - low)
    return intersection / union - (hull - union) / hull


def _distance_iou(boxes1: Tensor, boxes2: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return (distance IoU, IoU), [..., K1, K2] each, of boxes in float32 or better."""
    iou = box_iou(boxes1, boxes2)
    one, two = boxes1[..., :, None, :], boxes2[..., None, :, :]
    diagonal = upcast(torch.max(one[..., 2:], two[..., 2:]) - torch.min(one[..., :2], two[..., :2])).clamp(min=0)
    centres = upcast((one[..., :2] + one[..., 2:]) / 2 - (two[..., :2] + two[..., 2:]) / 2)
    distance = centres[..., 0] ** 2 + centres[..., 1] ** 2
    return iou - distance / (diagonal[..., 0] ** 2 + diagonal[..., 1] ** 2 + eps), iou


@input_errors
def distance_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """Return the distance IoU [..., K1, K2] (Zheng et al. 2020).

    It is the IoU minus the squared distance of the centres, divided by the squared diagonal of the enclosing box.

    Args:
        boxes1: [..., K1, 4], xyxy.
        boxes2: [..., K2, 4], xyxy; the leading dimensions broadcast.
        eps: added to the squared diagonal.

    Returns:
        [..., K1, K2], float32 for float16 and bfloat16.

    Raises:
        InputError: for shapes that do not fit.

    Example:
        >>> distance_box_iou(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), torch.tensor([[2.0, 0.0, 4.0, 2.0]]))
        tensor([[0.4500]])
    """
    check_pair(boxes1, boxes2, own=2)
    return _distance_iou(upcast(boxes1), upcast(boxes2), eps)[0]


def aspect_difference(w1: Tensor, h1: Tensor, w2: Tensor, h2: Tensor) -> Tensor:
    """Return the difference of the aspect ratios, from 0 to 1 (Zheng et al. 2020, eq. 8)."""
    return (4 / math.pi**2) * torch.pow(torch.atan(w1 / h1) - torch.atan(w2 / h2), 2)


@input_errors
def complete_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """Return the complete IoU [..., K1, K2] (Zheng et al. 2020).

    It is the distance IoU minus the weighted difference of the aspect ratios. The weight has no gradient.

    Args:
        boxes1: [..., K1, 4], xyxy.
        boxes2: [..., K2, 4], xyxy; the leading dimensions broadcast.
        eps: prevents divisions by 0 in the weight and the distance.

    Returns:
        [..., K1, K2], float32 for float16 and bfloat16.

    Raises:
        InputError: for shapes that do not fit.

    Example:
        >>> complete_box_iou(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), torch.tensor([[0.0, 0.0, 4.0, 2.0]]))
        tensor([[1.]])
    """
    check_pair(boxes1, boxes2, own=2)
    boxes1, boxes2 = upcast(boxes1), upcast(boxes2)
    distance_iou, iou = _distance_iou(boxes1, boxes2, eps)
    size1 = (boxes1[..., 2:] - boxes1[..., :2])[..., :, None, :]
    size2 = (boxes2[..., 2:] - boxes2[..., :2])[..., None, :, :]
    v = aspect_difference(size1[..., 0], size1[..., 1], size2[..., 0], size2[..., 1])
    with torch.no_grad():
        alpha = v / (1 - iou + v + eps)
    return distance_iou - alpha * v


@input_errors
def clip_boxes_to_image(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes [..., 4] (xyxy, in pixels) clipped to an image; NaN stays NaN.

    Args:
        boxes: [..., 4], any dtype.
        size: (height, width) of the image.

    Raises:
        InputError: for another shape.

    Example:
        >>> clip_boxes_to_image(torch.tensor([[-3.0, 2.0, 9.0, 30.0]]), (20, 8))
        tensor([[ 0.,  2.,  8., 20.]])
    """
    height, width = size
    clipped = check_boxes(boxes).clamp(min=0, max=max(height, width))  # a copy, which the next two lines change
    clipped[..., 0::2].clamp_(max=width)
    clipped[..., 1::2].clamp_(max=height)
    return clipped


@input_errors
def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """Return the indices of the boxes with both sides at least ``min_size``.

    Args:
        boxes: [K, 4], xyxy, any dtype.
        min_size: in the units of the boxes.

    Returns:
        [D] int64, ascending.

    Raises:
        InputError: for another shape.

    Example:
        >>> remove_small_boxes(torch.tensor([[0.0, 0.0, 4.0, 2.0], [0.0, 0.0, 4.0, 4.0]]), 3)
        tensor([1])
    """
    size = check_boxes(boxes)[..., 2:] - boxes[..., :2]
    return torch.where((size >= min_size).all(dim=-1))[0]


@input_errors
def masks_to_boxes(masks: Tensor) -> Tensor:
    """Return the smallest boxes [N, 4] that hold the pixels of each mask, as torchvision's ``masks_to_boxes``.

    A box goes from the centre of its first pixel to that of its last one: a mask of one pixel gives a box without area.
    A mask without pixels gives four zeros.

    Args:
        masks: [N, H, W], any dtype; all numbers but 0 are pixels of the mask.

    Returns:
        [N, 4] float32, xyxy; [0, 4] if ``masks`` has no elements.

    Raises:
        InputError: for another number of dimensions.

    Example:
        >>> masks = torch.zeros(1, 6, 8, dtype=torch.bool)
        >>> masks[0, 1:3, 2:7] = True
        >>> masks_to_boxes(masks)
        tensor([[2., 1., 6., 2.]])
    """
    require(masks.dim() == 3 or masks.numel() == 0, f"masks must be [N, H, W], got {list(masks.shape)}")
    if masks.numel() == 0:
        return torch.zeros(0, 4, device=masks.device)
    inside = masks != 0
    ends = []
    for side in (inside.any(dim=1), inside.any(dim=2)):  # x, y
        flags = side.to(torch.uint8)
        first, from_the_end = flags.argmax(dim=1), flags.flip(1).argmax(dim=1)
        last = flags.shape[1] - 1 - from_the_end
        ends.append((first, torch.where(side.any(dim=1), last, 0)))
    (x1, x2), (y1, y2) = ends
    return torch.stack((x1, y1, x2, y2), dim=1).float()
