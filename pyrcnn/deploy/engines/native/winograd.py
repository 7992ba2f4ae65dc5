"""3x3 convolutions by Winograd's algorithm: a quarter of the multiplications."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...machine import machine
from .ops.winograd import PANEL, winograd_conv2d, winograd_weight

MIN_BLOCKS = 8  # of 4x4 outputs; with fewer, reading four times as many weights takes longer than the algorithm saves


def is_winograd_faster(conv: nn.Conv2d, size: Sequence[int]) -> bool:
    """Whether Winograd's algorithm is faster than oneDNN for ``conv`` of an input of this ``size`` [N, C, H, W].

    Measured with AVX2 in float32 per layer: 2.1 to 3 times as fast from 16 blocks on, equal at 4.
    """
    shape = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    possible = shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and conv.padding_mode == "zeros"
    possible = possible and conv.in_channels % PANEL == conv.out_channels % PANEL == 0
    blocks = size[0] * math.ceil(size[2] / 4) * math.ceil(size[3] / 4)
    vectors = machine().kernels != "default"
    return possible and blocks > MIN_BLOCKS and vectors and conv.weight.dtype == torch.float32


class WinogradConv2d(nn.Module):
    """A 3x3 convolution of ``x`` [N, C, H, W], plus ``other`` of the result's shape where given, clamped."""

    def __init__(self, conv: nn.Conv2d, low: float, high: float):
        super().__init__()
        self.low, self.high = low, high
        self.weight = winograd_weight(conv.weight)  # not a parameter: it must not be moved, converted or saved
        self.bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """[N, C, H, W] → [N, outputs, H, W]."""
        return winograd_conv2d(x, self.weight, self.bias, other, self.low, self.high)
