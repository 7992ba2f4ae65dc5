"""3x3 convolutions of optimized networks by Winograd's algorithm: a quarter of the multiplications."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import _native
from ..ops import winograd

LEAST_TILES = 8  # of 4x4 pixels; with fewer, fetching four times as many weights takes longer than is saved


def suits(conv: nn.Conv2d, size: Sequence[int]) -> bool:
    """Whether ``conv`` of an input of this ``size`` [N, C, H, W] is faster so than by oneDNN; a table of measurements.

    AVX2 in float32, per layer: 2.1 to 3 times as fast from 16 tiles on, equal at 4.
    """
    shape = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    fits = shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and conv.padding_mode == "zeros"
    whole = conv.in_channels % winograd.PANEL == conv.out_channels % winograd.PANEL == 0
    tiles = size[0] * math.ceil(size[2] / 4) * math.ceil(size[3] / 4)
    vectors = _native.build_info()["cpu_capability"] != "default"
    return fits and whole and tiles > LEAST_TILES and vectors and conv.weight.dtype == torch.float32


class WinogradConv2d(nn.Module):
    """A 3x3 convolution of ``x`` [N, C, H, W], plus ``other`` of the result's shape where given, then a clamp."""

    def __init__(self, conv: nn.Conv2d, low: float, high: float):
        super().__init__()
        self.low, self.high = low, high
        self.weight = winograd.winograd_weight(conv.weight)  # no parameters: they are not to be moved or saved
        self.bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """[N, C, H, W] → [N, outputs, H, W]."""
        return winograd.winograd_conv2d(x, self.weight, self.bias, other, self.low, self.high)
