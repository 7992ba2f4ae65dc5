"""RoIPool (Girshick 2015): the maximum of a feature map in the bins of each region."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from ..errors import require
from ._regions import NAMES, as_rois, height_and_width, is_channels_last, memory_format
from ._register import input_errors, refuse_forward_ad, register_fake

_op = torch.ops.pyrcnn.roi_pool.default
_backward_op = torch.ops.pyrcnn._roi_pool_backward.default


def _is_known(fact: Any) -> bool:
    """Return whether ``fact`` holds; for sizes that torch.export leaves open, whether it holds for all of them."""
    if torch.compiler.is_compiling():
        return torch.fx.experimental.symbolic_shapes.statically_known_true(fact)
    return fact


@partial(input_errors, names=NAMES)
def roi_pool(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
) -> Tensor:
    """Return the maxima of ``input`` in the bins of each RoI, rounded to whole cells, as torchvision's ``roi_pool``.

    The gradient reaches ``input`` at the place of the maximum, the first of equal ones. ``boxes`` have no gradient.

    Args:
        input: feature map [N, C, H, W]; float32, float64, float16 or bfloat16; NCHW or NHWC in memory.
        boxes: RoIs [K, 5] (image index, x1, y1, x2, y2), or a list with one tensor of boxes [K, 4] per image, in pixels
            of the image. They may have a wider dtype than ``input``; coordinates are never rounded to half precision.
        output_size: bins per RoI, one number or (height, width).
        spatial_scale: cells of the feature map per image pixel, for example 1 / 16.

    Returns:
        [K, C, height, width] in the dtype and memory format of ``input``. Bins outside the feature map, and RoIs with a
        coordinate that is NaN or infinite, are 0. A NaN in ``input`` is the maximum of its bin, as in ``max_pool2d``.

    Raises:
        InputError: for wrong shapes, dtypes or devices and, on the CPU, for an image index out of range. On CUDA, such
            a RoI gives zeros, because detecting it would synchronize with the device.

    Example:
        >>> roi_pool(torch.ones(1, 8, 32, 32), torch.tensor([[0, 4.0, 4, 20, 20]]), 7, 0.5).shape
        torch.Size([1, 8, 7, 7])
    """
    height, width = height_and_width(output_size)
    rois = as_rois(boxes)
    refuse_forward_ad("roi_pool", (input,))
    bits = 0  # the gradient needs the places of the maxima, in 16 bits if that is enough
    if input.requires_grad and torch.is_grad_enabled():
        bits = 16 if _is_known(input.shape[2] * input.shape[3] <= 1 << 15) else 32
    return _op(input, rois, spatial_scale, height, width, bits)[0]


class RoIPool(nn.Module):
    """:func:`roi_pool` as a module, with torchvision's arguments.

    Args:
        output_size: bins per RoI, one number or (height, width).
        spatial_scale: cells of the feature map per image pixel.

    Raises:
        InputError: when called, as :func:`roi_pool`.

    Example:
        >>> RoIPool(7, spatial_scale=1 / 16)(torch.ones(1, 8, 64, 64), torch.zeros(3, 5)).shape
        torch.Size([3, 8, 7, 7])
    """

    def __init__(self, output_size: int | Sequence[int], spatial_scale: float) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        """Return [K, C, height, width] for ``input`` [N, C, H, W] and RoIs as in :func:`roi_pool`."""
        return roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print(model)``."""
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"


@register_fake("roi_pool")
def _(
    input: Tensor, rois: Tensor, spatial_scale: float, output_height: int, output_width: int, argmax_bits: int
) -> tuple[Tensor, Tensor]:
    require(input.dim() == 4, f"input must be [N, C, H, W], got {list(input.shape)}")
    require(rois.dim() == 2 and rois.shape[1] == 5, f"rois must be [K, 5], got {list(rois.shape)}")
    size = (rois.shape[0], input.shape[1], output_height, output_width)
    layout = memory_format(is_channels_last([input]))
    out = torch.empty(size, dtype=input.dtype, device=input.device, memory_format=layout)
    places = torch.int16 if argmax_bits == 16 else torch.int32
    if argmax_bits == 0:
        return out, torch.empty(0, dtype=places, device=input.device)
    return out, torch.empty(size, dtype=places, device=input.device, memory_format=layout)


@register_fake("_roi_pool_backward")
def _(
    grad: Tensor,
    argmax: Tensor,
    rois: Tensor,
    spatial_scale: float,
    images: int,
    height: int,
    width: int,
    channels_last: bool,
    deterministic: bool,
) -> Tensor:
    size = (images, grad.shape[1], height, width)
    return torch.empty(size, dtype=grad.dtype, device=grad.device, memory_format=memory_format(channels_last))


def _setup_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    input, rois, ctx.scale, *_, ctx.argmax_bits = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # autograd would make zeros for the places, as large as the result
    ctx.save_for_backward(output[1], rois)
    ctx.size = (input.shape[0], input.shape[2], input.shape[3], is_channels_last([input]))


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 6
    require(ctx.argmax_bits > 0, "argmax_bits must be 16 or 32 for roi_pool to have a gradient")
    argmax, rois = ctx.saved_tensors
    deterministic = torch.are_deterministic_algorithms_enabled()
    return _backward_op(grad, argmax, rois, ctx.scale, *ctx.size, deterministic), *[None] * 5


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1], inputs[2])


def _double_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    argmax, rois = ctx.saved_tensors
    if grad.numel() == 0:
        return grad.new_zeros(argmax.shape), *[None] * 8
    channels, pixels = grad.shape[1], grad.shape[2] * grad.shape[3]
    plane = rois[:, :1].long() * channels + torch.arange(channels, device=grad.device)  # [K, C]
    taken = argmax >= 0  # False in empty bins and, on CUDA, for an image index out of range
    at = (plane[:, :, None, None] * pixels + argmax).where(taken, 0)
    return grad.reshape(-1)[at].where(taken, 0), *[None] * 8


torch.library.register_autograd("pyrcnn::roi_pool", _backward, setup_context=_setup_forward)
torch.library.register_autograd("pyrcnn::_roi_pool_backward", _double_backward, setup_context=_setup_backward)
torch.fx.wrap("roi_pool")
