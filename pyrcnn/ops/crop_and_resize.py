"""TensorFlow's crop_and_resize, which its Faster R-CNN pools with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..errors import require
from ._register import input_errors, refuse_forward_ad, register_fake

_op = torch.ops.pyrcnn.crop_and_resize.default
_backward_op = torch.ops.pyrcnn._crop_and_resize_backward.default


@partial(input_errors, names={"rows": "output_size", "columns": "output_size"})
def crop_and_resize(
    features: Tensor,
    boxes: Tensor,
    box_indices: Tensor,
    output_size: int | Sequence[int],
    extrapolation: float = 0.0,
) -> Tensor:
    """Return boxes cropped out of ``features`` and resized bilinearly, as TensorFlow's ``tf.image.crop_and_resize``.

    Sample i of n along the height lies at ``y1 * (H - 1) + i * ((y2 - y1) * (H - 1) / (n - 1))``, or in the middle if n
    is 1, computed in the dtype of ``boxes``: the first and last samples lie on the box's edges. A box with y2 < y1 is
    flipped.

    Args:
        features: [N, C, H, W], NCHW or NHWC in memory; any floating-point dtype.
        boxes: [K, 4] in TensorFlow's order (y1, x1, y2, x2), normalized: 0 is the first row or column, 1 the last.
            float32, or the dtype of ``features``.
        box_indices: [K] int64, the image of each box. A box with an index out of range is filled with
            ``extrapolation``.
        output_size: (height, width) of the crops, or one number for both.
        extrapolation: the value of samples outside the feature map.

    Returns:
        [K, C, height, width] in the dtype and memory format of ``features``, differentiable in ``features``.

    Raises:
        InputError: for wrong shapes, dtypes or devices.

    Example:
        >>> features = torch.arange(9.0).reshape(1, 1, 3, 3)
        >>> crop_and_resize(features, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([0]), 2)
        tensor([[[[0., 2.],
                  [6., 8.]]]])
    """
    if not isinstance(output_size, Sequence):
        output_size = (output_size, output_size)
    require(len(output_size) == 2, f"output_size must be one or two numbers, got {tuple(output_size)}")
    refuse_forward_ad("crop_and_resize", (features,))
    return _op(features, boxes, box_indices, output_size[0], output_size[1], extrapolation)


def _is_channels_last(t: Tensor) -> bool:
    return not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)


def _in_format(maps: Tensor, channels_last: bool) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last) if channels_last else maps


@register_fake("crop_and_resize")
def _(features: Tensor, boxes: Tensor, box_indices: Tensor, rows: int, columns: int, extrapolation: float) -> Tensor:
    out = features.new_empty((boxes.shape[0], features.shape[1], rows, columns))
    return _in_format(out, _is_channels_last(features))


@register_fake("_crop_and_resize_backward")
def _(
    grad: Tensor, boxes: Tensor, box_indices: Tensor, images: int, height: int, width: int, channels_last: bool
) -> Tensor:
    dtype = torch.float64 if grad.dtype == torch.float64 else torch.float32
    return _in_format(grad.new_empty((images, grad.shape[1], height, width), dtype=dtype), channels_last)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    features, boxes, box_indices, *_ = inputs
    ctx.sizes = features.shape[0], features.shape[2], features.shape[3]
    ctx.channels_last = _is_channels_last(features)
    ctx.save_for_backward(boxes, box_indices)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    sums = _backward_op(grad, *ctx.saved_tensors, *ctx.sizes, ctx.channels_last)
    return sums.to(grad.dtype), None, None, None, None, None


torch.library.register_autograd("pyrcnn::crop_and_resize", _backward, setup_context=_setup_context)


# The gradient is linear in `grad`, and its adjoint is the crop itself (0 outside), which gives second derivatives.
def _setup_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    grad, boxes, box_indices, *_ = inputs
    ctx.rows, ctx.columns, ctx.dtype = grad.shape[2], grad.shape[3], grad.dtype
    ctx.save_for_backward(boxes, box_indices)


def _double_backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    boxes, box_indices = ctx.saved_tensors
    if boxes.dtype != torch.float32:  # boxes in half precision are computed in float32 as well
        boxes = boxes.to(grad.dtype)
    return _op(grad, boxes, box_indices, ctx.rows, ctx.columns, 0.0).to(ctx.dtype), *[None] * 6


torch.library.register_autograd("pyrcnn::_crop_and_resize_backward", _double_backward, setup_context=_setup_backward)
