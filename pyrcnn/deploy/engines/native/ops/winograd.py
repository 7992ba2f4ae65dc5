"""3x3 convolutions with a quarter of the multiplications, by Winograd's algorithm."""

from __future__ import annotations

import torch
from torch import Tensor

from .....ops._register import input_errors, register_fake

_op = torch.ops.pyrcnn._winograd_conv2d.default
PANEL = 16  # must divide the numbers of channels
_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))  # and infinity: as in csrc's winograd.h


def winograd_weight(weight: Tensor) -> Tensor:
    """The weight [outputs, inputs, 3, 3] of a convolution as :func:`winograd_conv2d` takes it.

    Returns [outputs / 16, 36, inputs, 16] float32, four times the numbers: for each input and output channel the
    transformed 6 x 6 kernel, computed in float64.
    """
    rows = []
    for p in _POINTS:
        others = torch.tensor([p - q for q in _POINTS if q != p], dtype=torch.float64)
        rows.append(torch.tensor([1.0, p, p * p], dtype=torch.float64) / others.prod())
    transform = torch.stack([*rows, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)])  # [6, 3]
    outputs, inputs = weight.shape[:2]
    planes = torch.einsum("ya,oiab,xb->oiyx", transform, weight.detach().double().cpu(), transform)
    return planes.reshape(outputs // PANEL, PANEL, inputs, 36).permute(0, 3, 2, 1).float().contiguous()


@input_errors
def winograd_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    other: Tensor | None = None,
    low: float = float("-inf"),
    high: float = float("inf"),
) -> Tensor:
    """3x3 convolution of ``input`` [N, C, H, W] with padding 1, plus ``other``, clamped to [``low``, ``high``].

    Winograd's F(4x4, 3x3) (Lavin & Gray 2016), on CPUs in float32; cuDNN has its own. Rounding errors are about 1.5
    times those of a direct convolution. A NaN or infinity spreads over its block of 4x4 outputs.

    Args:
        weight: what :func:`winograd_weight` returns; C and the outputs must be multiples of 16.
        bias: [outputs].
        other: a map of the result's shape, or None.

    Returns:
        [N, outputs, H, W] in channels_last, which is also the fastest format of ``input`` and ``other``.

    Example:
        >>> weight = winograd_weight(torch.ones(16, 16, 3, 3))
        >>> winograd_conv2d(torch.ones(1, 16, 3, 3), weight)[0, 0].round()
        tensor([[ 64.,  96.,  64.],
                [ 96., 144.,  96.],
                [ 64.,  96.,  64.]])
    """
    return _op(input, weight, bias, other, low, high)


@register_fake("_winograd_conv2d")
def _(input: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, low: float, high: float) -> Tensor:
    shape = (input.shape[0], weight.shape[0] * PANEL, *input.shape[2:])
    return input.new_empty(shape).contiguous(memory_format=torch.channels_last)
