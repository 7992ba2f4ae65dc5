"""Boxes times a factor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._register import call, input_errors, refuse_forward_ad, register_fake

_op = torch.ops.pyrcnn.scale_boxes.default


@input_errors
def scale_boxes(boxes: Tensor, factor: float) -> Tensor:
    """Return the boxes with every coordinate multiplied by ``factor``.

    Args:
        boxes: [K, 4], x1 y1 x2 y2 in pixels, any floating-point dtype.
        factor: the size of the new image divided by that of the old one.

    Returns:
        [K, 4] in the dtype of ``boxes``, computed in float32 or better. Differentiable in ``boxes``.

    Raises:
        InputError: if ``boxes`` is not [K, 4].

    Example:
        >>> scale_boxes(torch.tensor([[0.0, 2.0, 10.0, 12.0]]), 0.5)
        tensor([[0., 1., 5., 6.]])
    """
    refuse_forward_ad("scale_boxes", (boxes,))
    return call(_op, (boxes,), boxes, factor)


@register_fake("scale_boxes")
def _(boxes: Tensor, factor: float) -> Tensor:
    return boxes.new_empty(boxes.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.factor = inputs[1]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return _op(grad, ctx.factor), None  # linear: its own gradient, any number of times


torch.library.register_autograd("pyrcnn::scale_boxes", _backward, setup_context=_setup)
