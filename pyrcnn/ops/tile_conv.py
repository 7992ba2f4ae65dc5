"""1x1 and 3x3 convolutions in bfloat16 by tiles, as AMX has them, for optimized networks on CPUs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ._register import input_errors

_op = torch.ops.pyrcnn._tile_conv2d.default
PANEL = 32  # outputs whose weights lie together, and inputs that are multiplied together


def tile_weight(weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The weight [outputs, inputs, k, k] of a convolution and its bias [outputs], as :func:`tile_conv2d` takes them.

    Returns the weight as bfloat16 [panels, k * k * inputs' / 2, 32, 2]: panels of 32 outputs, and for each place of the
    kernel its inputs in pairs; and the bias as float32 [panels * 32]. Outputs and inputs are filled with zeros up to a
    multiple of 32.
    """
    outputs, inputs = weight.shape[:2]
    padded = F.pad(weight.detach(), (0, 0, 0, 0, 0, -inputs % PANEL, 0, -outputs % PANEL))
    rows = padded.permute(0, 2, 3, 1).reshape(-1, PANEL, padded[0].numel() // 2, 2)
    first = weight.new_zeros(outputs) if bias is None else bias.detach()
    return rows.transpose(1, 2).to(torch.bfloat16).contiguous(), F.pad(first.float(), (0, -outputs % PANEL))


@input_errors
def tile_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    other: Tensor | None,
    outputs: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    low: float = float("-inf"),
    high: float = float("inf"),
) -> Tensor:
    """1x1 or 3x3 convolution of ``input`` [N, C, H, W], plus ``other``, clamped to [``low``, ``high``].

    On CPUs in bfloat16 alone, with sums in float32 that are rounded once. It is meant for machines with AMX or
    AVX512_BF16; others compute the same by plain loops. Subnormal numbers may count as zero.

    Args:
        weight, bias: what :func:`tile_weight` makes.
        other: of the result's shape.
        outputs: channels of the result.
        kernel: 1 or 3.
        stride: 1 or 2.
        padding: rows and columns of zeros on every side, less than ``kernel``.

    Returns:
        [N, outputs, H', W'] bfloat16 in channels_last, which is also what ``input`` and ``other`` best are.

    Example:
        >>> weight, bias = tile_weight(torch.ones(8, 4, 3, 3))
        >>> x = torch.ones(1, 4, 3, 3, dtype=torch.bfloat16)
        >>> tile_conv2d(x, weight, bias, None, 8, 3, padding=1)[0, 0].float()
        tensor([[16., 24., 16.],
                [24., 36., 24.],
                [16., 24., 16.]])
    """
    return _op(input, weight, bias, other, outputs, kernel, stride, padding, low, high)


@torch.library.register_fake("pyrcnn::_tile_conv2d")
def _(input: Tensor, weight: Tensor, bias: Tensor, other: Tensor | None, outputs: int, kernel: int, stride: int,
      padding: int, low: float, high: float) -> Tensor:  # fmt: skip
    height, width = (max((n + 2 * padding - kernel) // stride + 1, 0) for n in input.shape[2:])
    return input.new_empty(input.shape[0], outputs, height, width).contiguous(memory_format=torch.channels_last)
