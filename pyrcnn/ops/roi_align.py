"""RoIAlign (He et al. 2017): regions of feature maps resampled to one size, from one feature map or a pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from ..errors import InputError, require
from ._regions import NAMES, as_rois, height_and_width, is_channels_last, memory_format
from ._register import input_errors, refuse_forward_ad, register_fake
from ._types import listed

_op = torch.ops.pyrcnn.roi_align.default
_backward_op = torch.ops.pyrcnn._roi_align_backward.default
_rois_backward_op = torch.ops.pyrcnn._roi_align_rois_backward.default


@partial(input_errors, names=NAMES)
def roi_align(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Return averages of bilinear samples of ``input`` in the bins of each RoI, as torchvision's ``roi_align``.

    Gradients reach ``input`` and the coordinates of ``boxes``; they do not depend on the number of threads. The
    gradient to ``input`` can be differentiated again. That to ``boxes`` cannot, and forward mode is not supported: both
    raise.

    Args:
        input: feature maps [N, C, H, W]; float32, float64, float16 or bfloat16; NCHW or NHWC in memory.
        boxes: RoIs [K, 5] (image index, x1, y1, x2, y2), or a list with one tensor of boxes [K, 4] per image, in pixels
            of the image. They may have a wider dtype than ``input``; coordinates are never rounded to half precision.
        output_size: bins per RoI, one number or (height, width).
        spatial_scale: cells of the feature map per image pixel, for example 1 / 16.
        sampling_ratio: samples per bin and axis, at most 256; 0 or less takes one per cell: ceil(RoI extent / bins).
        aligned: shift by half a cell, so that cell centres lie at integers + 0.5, and allow RoIs below one cell.

    Returns:
        [K, C, height, width] in the dtype and memory format of ``input``. Samples more than one cell outside the
        feature map count as zero. A RoI outside it, or with a coordinate that is NaN or infinite, gives zeros.

    Raises:
        InputError: for wrong shapes, dtypes or devices and, on the CPU, for an image index out of range. On CUDA, such
            a RoI gives zeros, because detecting it would synchronize with the device.

    Example:
        >>> roi_align(torch.ones(1, 8, 32, 32), torch.tensor([[0, 4.0, 4, 20, 20]]), 7, 0.5).shape
        torch.Size([1, 8, 7, 7])
    """
    if not isinstance(input, Tensor):
        raise InputError(f"input must be a tensor, got {type(input).__name__}")
    if input.dim() != 4:
        raise InputError(f"input must be [N, C, H, W], got {list(input.shape)}")
    if not input.is_floating_point():
        raise InputError(f"input must be float32, float64, float16 or bfloat16, got {input.dtype}")
    height, width = height_and_width(output_size)
    rois = as_rois(boxes)
    refuse_forward_ad("roi_align", (input, rois))
    return _op([input], rois, [spatial_scale], height, width, sampling_ratio, aligned, 224.0, 4)


@input_errors
def roi_align_levels(
    features: Sequence[Tensor],
    rois: Tensor,
    output_size: int | Sequence[int],
    scales: Sequence[float],
    sampling_ratio: int = 2,
    aligned: bool = False,
    canonical_size: float = 224,
    canonical_level: int = 4,
) -> Tensor:
    """Return RoIAlign of RoIs from a feature pyramid, each from the level that suits its size, in one call.

    A RoI of area ``s * s`` reads level ``floor(canonical_level + log2(s / canonical_size) + 1e-6)`` (Lin et al. 2017,
    eq. 1), limited to the existing levels. ``features[0]`` is level ``-log2(scales[0])``; each following feature map is
    one level coarser.

    Args:
        features: per level, [N, C, H, W], fine to coarse; otherwise as ``input`` in :func:`roi_align`.
        rois: [K, 5] (image index, x1, y1, x2, y2), in pixels of the image.
        output_size: bins per RoI, one number or (height, width).
        scales: per level, cells per image pixel.
        sampling_ratio, aligned: as in :func:`roi_align`.
        canonical_size: a RoI with this side, in pixels, reads level ``canonical_level``.
        canonical_level: see ``canonical_size``.

    Returns:
        [K, C, height, width] in the dtype and memory format of ``features``; gradients as in :func:`roi_align`.

    Raises:
        InputError: as in :func:`roi_align`.

    Example:
        >>> pyramid = [torch.ones(1, 8, 64 >> level, 64 >> level) for level in range(3)]
        >>> roi_align_levels(pyramid, torch.tensor([[0, 4.0, 4, 20, 20]]), 7, [1 / 4, 1 / 8, 1 / 16]).shape
        torch.Size([1, 8, 7, 7])
    """
    height, width = height_and_width(output_size)
    refuse_forward_ad("roi_align_levels", (*features, rois))
    return _op(
        list(features),
        rois,
        listed("scales", scales),
        height,
        width,
        sampling_ratio,
        aligned,
        float(canonical_size),
        canonical_level,
    )


class RoIAlign(nn.Module):
    """:func:`roi_align` as a module, with torchvision's arguments.

    Args:
        output_size: bins per RoI, one number or (height, width).
        spatial_scale: cells of the feature map per image pixel.
        sampling_ratio: samples per bin and axis, at most 256; 0 or less takes one per cell.
        aligned: shift by half a cell.

    Raises:
        InputError: when called, as :func:`roi_align`.

    Example:
        >>> RoIAlign(7, spatial_scale=0.25, sampling_ratio=2)(torch.ones(1, 8, 64, 64), torch.zeros(3, 5)).shape
        torch.Size([3, 8, 7, 7])
    """

    def __init__(
        self, output_size: int | Sequence[int], spatial_scale: float, sampling_ratio: int, aligned: bool = False
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        """Return [K, C, height, width] for ``input`` [N, C, H, W] and RoIs as in :func:`roi_align`."""
        return roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print(model)``."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )


@register_fake("roi_align")
def _(
    features: list[Tensor],
    rois: Tensor,
    scales: list[float],
    output_height: int,
    output_width: int,
    sampling_ratio: int,
    aligned: bool,
    canonical_size: float,
    canonical_level: int,
) -> Tensor:
    require(len(features) > 0, "features must have at least one level")
    for t in features:
        require(t.dim() == 4, f"features must be [N, C, H, W] per level, got {list(t.shape)}")
        require(t.dtype == features[0].dtype, "features must have one dtype at every level")
    require(rois.dim() == 2 and rois.shape[1] == 5, f"rois must be [K, 5], got {list(rois.shape)}")
    size = (rois.shape[0], features[0].shape[1], output_height, output_width)
    return torch.empty(
        size,
        dtype=features[0].dtype,
        device=features[0].device,
        memory_format=memory_format(is_channels_last(features)),
    )


@register_fake("_roi_align_backward")
def _(
    grad: Tensor,
    rois: Tensor,
    heights: list[int],
    widths: list[int],
    images: int,
    scales: list[float],
    sampling_ratio: int,
    aligned: bool,
    canonical_size: float,
    canonical_level: int,
    channels_last: bool,
    deterministic: bool,
) -> list[Tensor]:
    return [
        torch.empty(
            (images, grad.shape[1], h, w),
            dtype=grad.dtype,
            device=grad.device,
            memory_format=memory_format(channels_last),
        )
        for h, w in zip(heights, widths, strict=True)
    ]


@register_fake("_roi_align_rois_backward")
def _(
    grad: Tensor,
    features: list[Tensor],
    rois: Tensor,
    scales: list[float],
    sampling_ratio: int,
    aligned: bool,
    canonical_size: float,
    canonical_level: int,
) -> Tensor:
    return torch.empty_like(rois, memory_format=torch.contiguous_format)


def _setup_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, rois, scales, _, _, *rest = inputs
    ctx.rois_need_grad = rois.requires_grad
    ctx.save_for_backward(rois, *(features if ctx.rois_need_grad else ()))
    ctx.sizes = ([t.shape[2] for t in features], [t.shape[3] for t in features], features[0].shape[0])
    ctx.settings = (scales, *rest)
    ctx.features_need_grad = [t.requires_grad for t in features]
    ctx.channels_last = is_channels_last(features)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    rois, *features = ctx.saved_tensors
    grads: list[Tensor | None] = [None] * len(ctx.features_need_grad)
    grad_rois = None
    if any(ctx.features_need_grad):
        deterministic = torch.are_deterministic_algorithms_enabled()
        grads = _backward_op(grad, rois, *ctx.sizes, *ctx.settings, ctx.channels_last, deterministic)
    if ctx.rois_need_grad:
        grad_rois = _rois_backward_op(grad, features, rois, *ctx.settings)
    return grads, grad_rois, None, None, None, None, None, None, None


# The gradient to the features is linear in `grad`, and its adjoint is RoIAlign itself, which gives second derivatives.
def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    grad, rois, _, _, _, *settings, _, _ = inputs
    ctx.save_for_backward(grad, rois)
    ctx.settings = settings


def _double_backward(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    grad, rois = ctx.saved_tensors
    scales, *rest = ctx.settings
    grad_grad = _op(grads, rois, scales, grad.shape[2], grad.shape[3], *rest) if ctx.needs_input_grad[0] else None
    grad_rois = _rois_backward_op(grad, grads, rois, scales, *rest) if ctx.needs_input_grad[1] else None
    return grad_grad, grad_rois, *[None] * 10


def _no_double_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    raise RuntimeError("roi_align: the gradient to the coordinates of boxes cannot be differentiated again")


torch.library.register_autograd("pyrcnn::roi_align", _backward, setup_context=_setup_forward)
torch.library.register_autograd("pyrcnn::_roi_align_backward", _double_backward, setup_context=_setup_backward)
torch.library.register_autograd("pyrcnn::_roi_align_rois_backward", _no_double_backward)
torch.fx.wrap("roi_align")
