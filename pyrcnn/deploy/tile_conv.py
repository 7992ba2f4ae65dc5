"""Convolutions of optimized networks in bfloat16 by AMX or AVX-512, where a trial shows them faster than oneDNN's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import _native
from ..ops.tile_conv import tile_conv2d, tile_weight

TRIALS = 5  # of each contender, in turns


def suits(conv: nn.Conv2d) -> bool:
    """Whether ``conv`` can be computed by tiles, and the machine has them."""
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
    square = (conv.kernel_size, conv.stride, conv.padding) == ((kernel,) * 2, (stride,) * 2, (padding,) * 2)
    fits = square and kernel in {1, 3} and stride in {1, 2} and padding < kernel
    plain = conv.dilation == (1, 1) and conv.groups == 1 and conv.padding_mode == "zeros"
    return fits and plain and conv.weight.dtype == torch.bfloat16 and _native.build_info()["cpu_tiles"] != ""


class TileConv2d(nn.Module):
    """A convolution of ``x`` [N, C, H, W], plus ``other`` of the result's shape where given, then a clamp."""

    def __init__(self, conv: nn.Conv2d, low: float, high: float):
        super().__init__()
        self.weight, self.bias = tile_weight(conv.weight, conv.bias)  # no parameters: they are not to be moved or saved
        # outputs, kernel, stride, padding, and the clamp's two limits
        self.shape: Any = conv.out_channels, conv.kernel_size[0], conv.stride[0], conv.padding[0], low, high

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """[N, C, H, W] → [N, outputs, H / stride, W / stride]."""
        return tile_conv2d(x, self.weight, self.bias, other, *self.shape)


def fastest(contenders: Sequence[nn.Module], *sizes: Sequence[int]) -> nn.Module:
    """The one whose best call is the shortest, on bfloat16 feature maps of these ``sizes``.

    Which of two that are equally fast it is may differ from run to run, and with it how sums are rounded.
    """
    if len(contenders) == 1:
        return contenders[0]
    own = torch.Generator().manual_seed(0)  # the caller's goes on as if nothing had been drawn
    maps = [torch.rand(tuple(s), generator=own).to(torch.bfloat16, memory_format=torch.channels_last) for s in sizes]
    best = [float("inf")] * len(contenders)
    for trial in range(1 + TRIALS):
        for i, contender in enumerate(contenders):
            begin = time.perf_counter()
            contender(*maps)
            if trial > 0:  # the first call makes what the others use
                best[i] = min(best[i], time.perf_counter() - begin)
    return contenders[best.index(min(best))]
