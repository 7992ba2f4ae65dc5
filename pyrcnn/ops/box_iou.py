"""Intersection over union of every pair of boxes of two lists, and the functions that it consists of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..errors import InputError, require
from ._register import call, input_errors, no_second_gradient, register_fake

_op = torch.ops.pyrcnn.box_iou.default
_backward_op = torch.ops.pyrcnn._box_iou_backward.default

FORMATS = ("xyxy", "xywh", "cxcywh")


def upcast(t: Tensor) -> Tensor:
    """Return ``t`` as at least float32 or int32, so that products do not overflow early."""
    if t.is_floating_point():
        return t if t.dtype in (torch.float32, torch.float64) else t.float()
    return t if t.dtype in (torch.int32, torch.int64) else t.int()


def check_boxes(boxes: Tensor, name: str = "boxes") -> Tensor:
    """Return ``boxes``; raise InputError unless it is a tensor [..., 4]."""
    if not isinstance(boxes, Tensor) or boxes.shape[-1:] != (4,):
        got = list(boxes.shape) if isinstance(boxes, Tensor) else type(boxes).__name__
        raise InputError(f"{name} must be a tensor [..., 4], got {got}")
    return boxes


def check_pair(boxes1: Tensor, boxes2: Tensor, own: int) -> None:
    """Raise InputError unless both are tensors [..., 4] whose dimensions except the last ``own`` broadcast."""
    one, two = check_boxes(boxes1, "boxes1").shape[:-own], check_boxes(boxes2, "boxes2").shape[:-own]
    if boxes1.device != boxes2.device:
        raise InputError(f"boxes2 must be on the device of boxes1, {boxes1.device}, got {boxes2.device}")
    if one != two:
        try:
            torch.broadcast_shapes(one, two)
        except RuntimeError:
            got = f"{list(boxes1.shape)} and {list(boxes2.shape)}"
            raise InputError(f"boxes1 and boxes2 must have leading dimensions that broadcast, got {got}") from None


@input_errors
def box_area(boxes: Tensor, fmt: str = "xyxy") -> Tensor:
    """Return the areas [...] of boxes [..., 4], in square pixels; negative for boxes with x2 < x1 or y2 < y1.

    Args:
        boxes: [..., 4], any dtype.
        fmt: ``"xyxy"``, ``"xywh"`` or ``"cxcywh"``.

    Raises:
        InputError: for an unknown format or another shape.

    Example:
        >>> box_area(torch.tensor([[0.0, 0.0, 4.0, 2.0]]))
        tensor([8.])
    """
    require(
        fmt in FORMATS,
        f"fmt must be one of {FORMATS}, got {fmt!r}. Unsupported Bounding Box area for given format {fmt}",
    )
    a, b, c, d = upcast(check_boxes(boxes)).unbind(-1)
    return (c - a) * (d - b) if fmt == "xyxy" else c * d


def _corners(boxes: Tensor, fmt: str) -> tuple[Tensor, Tensor]:
    """Return the corners (x1, y1) and (x2, y2), each [..., 2]."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if fmt == "xywh":
        return first, first + second
    if fmt == "cxcywh":
        return first - second / 2, first + second / 2
    return first, second


def positive_area(size: Tensor) -> Tensor:
    """Return the areas [...] of sizes [..., 2]; negative sizes count as 0."""
    w, h = upcast(size).clamp(min=0).unbind(-1)
    return w * h


def intersection_and_union(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy") -> tuple[Tensor, Tensor]:
    """Return (intersection, union) of every pair of boxes, [..., K1, K2] each."""
    check_pair(boxes1, boxes2, own=2)
    low1, high1 = _corners(boxes1[..., :, None, :], fmt)
    low2, high2 = _corners(boxes2[..., None, :, :], fmt)
    intersection = positive_area(torch.min(high1, high2) - torch.max(low1, low2))
    union = box_area(boxes1, fmt)[..., :, None] + box_area(boxes2, fmt)[..., None, :] - intersection
    return intersection, union


def _is_transformed() -> bool:
    """Return whether forward-mode derivatives or torch.func are active, which the native operator does not support."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


@input_errors
def box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy") -> Tensor:
    """Return the intersection over union [..., K1, K2] of every pair of boxes of two lists; 0 / 0 is NaN.

    Boxes of one floating-point dtype in the format ``xyxy`` use the native operator; others use torch and give the same
    values. Differentiable twice in both arguments. Equal corners share a gradient; boxes that touch have the gradient
    of boxes that overlap.

    Args:
        boxes1: [..., K1, 4], any dtype.
        boxes2: [..., K2, 4], any dtype; the leading dimensions broadcast.
        fmt: the format of both: ``"xyxy"``, ``"xywh"`` or ``"cxcywh"``.

    Returns:
        [..., K1, K2], float32 for float16 and bfloat16.

    Raises:
        InputError: for an unknown format, or shapes that do not fit.

    Example:
        >>> box_iou(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), torch.tensor([[2.0, 0.0, 4.0, 2.0], [4.0, 0.0, 5.0, 2.0]]))
        tensor([[0.5000, 0.0000]])
    """
    require(fmt in FORMATS, f"fmt must be one of {FORMATS}, got {fmt!r}. Unsupported format {fmt!r}")
    if not (isinstance(boxes1, Tensor) and isinstance(boxes2, Tensor)):
        check_pair(boxes1, boxes2, own=2)
    native = fmt == "xyxy" and boxes1.dtype == boxes2.dtype and boxes1.is_floating_point()
    if native and not _is_transformed():
        if boxes1.shape[:-2] != boxes2.shape[:-2]:
            check_pair(boxes1, boxes2, own=2)
            images = torch.broadcast_shapes(boxes1.shape[:-2], boxes2.shape[:-2])
            boxes1, boxes2 = (b.expand(*images, *b.shape[-2:]) for b in (boxes1, boxes2))
        return call(_op, (boxes1, boxes2), boxes1, boxes2)
    intersection, union = intersection_and_union(boxes1, boxes2, fmt)
    return intersection / union


@register_fake("box_iou")
def _(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    return boxes1.new_empty((*boxes1.shape[:-1], boxes2.shape[-2]), dtype=upcast(boxes1).dtype)


@register_fake("_box_iou_backward")
def _(grad: Tensor, boxes1: Tensor, boxes2: Tensor, need_first: bool, need_second: bool) -> tuple[Tensor, Tensor]:
    shape1, shape2 = (b.shape if need else (0,) for b, need in ((boxes1, need_first), (boxes2, need_second)))
    return boxes1.new_empty(shape1), boxes2.new_empty(shape2)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    need_first, need_second = ctx.needs_input_grad
    if torch.is_grad_enabled():  # a second derivative may follow
        boxes1, boxes2 = ctx.saved_tensors
        intersection, union = intersection_and_union(boxes1, boxes2)
        wanted = [b for b, need in zip((boxes1, boxes2), ctx.needs_input_grad, strict=True) if need]
        found = iter(torch.autograd.grad(intersection / union, wanted, grad, create_graph=True))
        return next(found) if need_first else None, next(found) if need_second else None
    first, second = _backward_op(grad, *ctx.saved_tensors, need_first, need_second)
    return first if need_first else None, second if need_second else None


torch.library.register_autograd("pyrcnn::box_iou", _backward, setup_context=_setup)
no_second_gradient("box_iou")
