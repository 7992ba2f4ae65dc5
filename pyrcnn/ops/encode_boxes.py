"""Boxes to regression deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._pairing import broadcast_anchors
from ._register import call, input_errors, no_second_gradient, refuse_forward_ad, register_fake
from ._types import listed

_op = torch.ops.pyrcnn.encode_boxes.default
_backward_op = torch.ops.pyrcnn._encode_boxes_backward.default


@input_errors
def encode_boxes(boxes: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Return the deltas (dx, dy, dw, dh) [..., 4] that turn anchors into boxes (Ren et al. 2015, eq. 2).

    Args:
        boxes: [..., 4] in pixels, any floating-point dtype.
        anchors: [..., 4] boxes that broadcast to ``boxes``, as in :func:`decode_boxes`.
        weights: the four deltas are multiplied by these.

    Returns:
        [..., 4] in the promoted dtype, computed in float32 or better. A box or an anchor without width or height gives
        infinities or NaN. Differentiable in ``boxes`` and ``anchors``.

    Raises:
        InputError: for shapes that do not fit.

    Example:
        >>> encode_boxes(torch.tensor([[5.0, 0.0, 15.0, 20.0]]), torch.tensor([[0.0, 0.0, 10.0, 20.0]]))
        tensor([[0.5000, 0.0000, 0.0000, 0.0000]])
    """
    refuse_forward_ad("encode_boxes", (boxes, anchors))
    boxes, anchors, repeat = broadcast_anchors("boxes", boxes, anchors)
    return call(_op, (boxes, anchors), boxes, anchors, repeat, listed("weights", weights))


@register_fake("encode_boxes")
def _(boxes: Tensor, anchors: Tensor, repeat: int, weights: list[float]) -> Tensor:
    return anchors.new_empty(boxes.shape)


@register_fake("_encode_boxes_backward")
def _(
    grad: Tensor, boxes: Tensor, anchors: Tensor, repeat: int, weights: list[float], need_anchors: bool
) -> tuple[Tensor, Tensor]:
    return boxes.new_empty(boxes.shape), anchors.new_empty(anchors.shape if need_anchors else (0,))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    boxes, anchors, *ctx.rest = inputs
    ctx.save_for_backward(boxes, anchors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    need_anchors = ctx.needs_input_grad[1]
    to_boxes, to_anchors = _backward_op(grad, *ctx.saved_tensors, *ctx.rest, need_anchors)
    return to_boxes, to_anchors if need_anchors else None, None, None


torch.library.register_autograd("pyrcnn::encode_boxes", _backward, setup_context=_setup)
no_second_gradient("encode_boxes")
