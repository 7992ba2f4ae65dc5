"""Regression deltas to boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._pairing import broadcast_anchors
from ._register import call, input_errors, no_second_gradient, refuse_forward_ad, register_fake
from ._types import listed

_op = torch.ops.pyrcnn.decode_boxes.default
_backward_op = torch.ops.pyrcnn._decode_boxes_backward.default

DELTA_CLIP = math.log(1000 / 16)  # torchvision's and detectron2's: no box grows more than 62.5-fold


@input_errors
def decode_boxes(
    deltas: Tensor,
    anchors: Tensor,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float = DELTA_CLIP,
    size: Sequence[float] | None = None,
) -> Tensor:
    """Return the boxes [..., 4] that regression deltas make of anchors (Ren et al. 2015, eq. 2).

    Args:
        deltas: [..., 4] (dx, dy, dw, dh), any floating-point dtype.
        anchors: [..., 4] boxes that broadcast to ``deltas``, in pixels: [K, 4] with deltas [N, K, 4], or [K, 1, 4] with
            [K, C, 4]. They are not copied.
        weights: the four deltas are divided by these.
        clip: dw and dh are limited to this before exp; ``math.inf`` for no limit.
        size: (height, width) in pixels: clip the boxes to an image in the same pass, as :func:`clip_boxes_to_image`.

    Returns:
        [..., 4] in the promoted dtype (half-precision deltas with float32 anchors give float32), computed in float32 or
        better. Differentiable in ``deltas`` and ``anchors``.

    Raises:
        InputError: for shapes that do not fit.

    Example:
        >>> decode_boxes(torch.tensor([[0.5, 0.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 10.0, 20.0]]))
        tensor([[ 5.,  0., 15., 20.]])
    """
    refuse_forward_ad("decode_boxes", (deltas, anchors))
    deltas, anchors, repeat = broadcast_anchors("deltas", deltas, anchors)
    size = [] if size is None else listed("size", size)
    return call(_op, (deltas, anchors), deltas, anchors, repeat, listed("weights", weights), clip, size)


@register_fake("decode_boxes")
def _(deltas: Tensor, anchors: Tensor, repeat: int, weights: list[float], clip: float, size: list[float]) -> Tensor:
    return anchors.new_empty(deltas.shape)


@register_fake("_decode_boxes_backward")
def _(
    grad: Tensor, deltas: Tensor, anchors: Tensor, repeat: int, weights: list[float], clip: float, need_anchors: bool
) -> tuple[Tensor, Tensor]:
    return deltas.new_empty(deltas.shape), anchors.new_empty(anchors.shape if need_anchors else (0,))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    deltas, anchors, *ctx.rest, ctx.size = inputs
    ctx.save_for_backward(deltas, anchors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    need_anchors = ctx.needs_input_grad[1]
    if ctx.size:
        height, width = ctx.size
        boxes = _op(*ctx.saved_tensors, *ctx.rest, [])
        inside = boxes >= 0
        inside[..., 0::2] &= boxes[..., 0::2] <= width
        inside[..., 1::2] &= boxes[..., 1::2] <= height
        grad = torch.where(inside, grad, 0.0)  # a clipped coordinate has no gradient
    to_deltas, to_anchors = _backward_op(grad, *ctx.saved_tensors, *ctx.rest, need_anchors)
    return to_deltas, to_anchors if need_anchors else None, None, None, None, None


torch.library.register_autograd("pyrcnn::decode_boxes", _backward, setup_context=_setup)
no_second_gradient("decode_boxes")
