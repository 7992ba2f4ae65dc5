"""Losses with torchvision's names, arguments and results, in plain torch.

The IoU losses compare each box of ``boxes1`` [..., 4] with the box at the same place in ``boxes2`` [..., 4], both
``x1 y1 x2 y2``. They return [...] in float32 or better, or one number with ``reduction="mean"`` (0 for no boxes) or
``"sum"``. ``eps`` is added to denominators.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, require
from ._register import input_errors
from .box_iou import check_pair
from .boxes import aspect_difference

_REDUCTIONS = ("none", "mean", "sum")


def _check(reduction: str, boxes: tuple[Tensor, Tensor] | None = None) -> None:
    if boxes is not None:
        check_pair(*boxes, own=1)
    require(
        reduction in _REDUCTIONS,
        f"reduction must be one of {_REDUCTIONS}, got {reduction!r}. Invalid value for reduction",
    )


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return loss.mean() if loss.numel() > 0 else 0.0 * loss.sum()
    return loss.sum() if reduction == "sum" else loss


def _float(boxes: Tensor) -> Tensor:
    return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.float()


def _intersection_and_union(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    """Return (intersection, union) of boxes at the same place, [...] each."""
    size = torch.min(boxes1[..., 2:], boxes2[..., 2:]) - torch.max(boxes1[..., :2], boxes2[..., :2])
    product = size[..., 0] * size[..., 1]
    intersection = torch.where((size > 0).all(dim=-1), product, torch.zeros_like(product))
    w1, h1 = (boxes1[..., 2:] - boxes1[..., :2]).unbind(-1)
    w2, h2 = (boxes2[..., 2:] - boxes2[..., :2]).unbind(-1)
    return intersection, w1 * h1 + w2 * h2 - intersection


def _hull_size(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    size = torch.max(boxes1[..., 2:], boxes2[..., 2:]) - torch.min(boxes1[..., :2], boxes2[..., :2])
    return size[..., 0], size[..., 1]


@input_errors
def generalized_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Return 1 - generalized IoU of boxes at the same place, from 0 to 2 (Rezatofighi et al. 2019).

    Args:
        boxes1: [..., 4], x1 y1 x2 y2, any dtype.
        boxes2: [..., 4], likewise; the leading dimensions broadcast.
        reduction: ``"none"``, ``"mean"`` (0 for no boxes) or ``"sum"``.
        eps: added to denominators.

    Raises:
        InputError: for an unknown reduction, or shapes that do not fit.

    Example:
        >>> generalized_box_iou_loss(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), torch.tensor([[2.0, 0.0, 4.0, 2.0]]))
        tensor([0.5000])
    """
    _check(reduction, (boxes1, boxes2))
    boxes1, boxes2 = _float(boxes1), _float(boxes2)
    intersection, union = _intersection_and_union(boxes1, boxes2)
    w, h = _hull_size(boxes1, boxes2)
    hull = w * h
    return _reduce(1 - (intersection / (union + eps) - (hull - union) / (hull + eps)), reduction)


def _distance_loss(boxes1: Tensor, boxes2: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return (1 - distance IoU, IoU)."""
    intersection, union = _intersection_and_union(boxes1, boxes2)
    iou = intersection / (union + eps)
    w, h = _hull_size(boxes1, boxes2)
    centres = (boxes1[..., 2:] + boxes1[..., :2]) / 2 - (boxes2[..., :2] + boxes2[..., 2:]) / 2
    distance = centres[..., 0] ** 2 + centres[..., 1] ** 2
    return 1 - iou + distance / (w**2 + h**2 + eps), iou


@input_errors
def distance_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Return 1 - distance IoU of boxes at the same place, from 0 to 2 (Zheng et al. 2020, eq. 7).

    Args:
        boxes1: [..., 4], x1 y1 x2 y2, any dtype.
        boxes2: [..., 4], likewise; the leading dimensions broadcast.
        reduction: ``"none"``, ``"mean"`` (0 for no boxes) or ``"sum"``.
        eps: added to denominators.

    Raises:
        InputError: for an unknown reduction, or shapes that do not fit.

    Example:
        >>> distance_box_iou_loss(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), torch.tensor([[2.0, 0.0, 4.0, 2.0]]))
        tensor([0.5500])
    """
    _check(reduction, (boxes1, boxes2))
    return _reduce(_distance_loss(_float(boxes1), _float(boxes2), eps)[0], reduction)


@input_errors
def complete_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """Return 1 - complete IoU of boxes at the same place (Zheng et al. 2020, eq. 10).

    The weight of the aspect ratios has no gradient.

    Args:
        boxes1: [..., 4], x1 y1 x2 y2, any dtype.
        boxes2: [..., 4], likewise; the leading dimensions broadcast.
        reduction: ``"none"``, ``"mean"`` (0 for no boxes) or ``"sum"``.
        eps: added to the weight's denominator. As in torchvision, the distance IoU always uses 1e-7.

    Raises:
        InputError: for an unknown reduction, or shapes that do not fit.

    Example:
        >>> complete_box_iou_loss(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), torch.tensor([[0.0, 0.0, 4.0, 2.0]]))
        tensor([0.])
    """
    _check(reduction, (boxes1, boxes2))
    boxes1, boxes2 = _float(boxes1), _float(boxes2)
    loss, iou = _distance_loss(boxes1, boxes2, 1e-7)
    w1, h1 = (boxes1[..., 2:] - boxes1[..., :2]).unbind(-1)
    w2, h2 = (boxes2[..., 2:] - boxes2[..., :2]).unbind(-1)
    v = aspect_difference(w2, h2, w1, h1)
    with torch.no_grad():
        alpha = v / (1 - iou + v + eps)
    return _reduce(loss + alpha * v, reduction)


@input_errors
def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2, reduction: str = "none"
) -> Tensor:
    """Return the focal loss of logits (Lin et al. 2017).

    Args:
        inputs: logits of any shape.
        targets: from 0 to 1, of the same shape.
        alpha: the weight of positives; negatives weigh ``1 - alpha``. -1 for no weights.
        gamma: exponent that reduces the loss of easy examples.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Returns:
        the shape of ``inputs``, or one number with ``reduction="mean"`` or ``"sum"``.

    Raises:
        InputError: for an ``alpha`` outside [0, 1] other than -1, an unknown reduction, or ``targets`` of another
            shape.

    Example:
        >>> sigmoid_focal_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor([0.0433, 0.1300])
    """
    if not (0 <= alpha <= 1 or alpha == -1):  # not require(): while compiling, alpha may be symbolic and has no text
        raise InputError(f"alpha must be in [0, 1], or -1 for no weights, got {alpha}. Invalid alpha value: {alpha}")
    _check(reduction)
    if targets.shape != inputs.shape:
        raise InputError(f"targets must have the shape of inputs, {list(inputs.shape)}, got {list(targets.shape)}")
    if targets.device != inputs.device:
        raise InputError(f"targets must be on the device of inputs, {inputs.device}, got {targets.device}")
    p = torch.sigmoid(inputs)
    p_t = p * targets + (1 - p) * (1 - targets)
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none") * (1 - p_t) ** gamma
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss
