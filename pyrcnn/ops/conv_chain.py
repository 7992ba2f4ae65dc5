"""Convolutions in a row without the maps between them, for optimized networks on CPUs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ._register import input_errors

_op = torch.ops.pyrcnn._conv_chains.default
PANEL = 16  # outputs whose weights lie together
TILE = 32  # ... in bfloat16, and inputs that are multiplied together there
NO_LIMITS = (-math.inf, math.inf) * 4
_NUMBERS, _DEPTHWISE = 17, 2  # per chain, and the bit of that stage: as in csrc/conv_chain/conv_chain_check.h


def chain_weight(weight: Tensor, bias: Tensor | None = None, depthwise: bool = False) -> Tensor:
    """The weight of a 1x1, depthwise 3x3 or 3x3 convolution, and its bias [outputs], as :func:`conv_chains` takes it.

    Returns [panels, 1 + inputs, 16], [panels, 1 + 9, 16] or [panels, 1 + 9 * inputs, 16] float32: panels of 16 outputs,
    the last one filled with zeros, the bias first, of a 3x3 kernel's rows each with all inputs.

    For a bfloat16 ``weight`` [panels, 2 + inputs', 32], [panels, 2 + 9, 32] (``depthwise``) or [panels, 2 + (9 *
    inputs)', 32] bfloat16: panels of 32 outputs. The first two rows are the bias, the bits of 32 float32 numbers. But
    for ``depthwise``, the rows behind them are filled with zeros up to a multiple of 32, and lie in pairs,
    [inputs' / 2, 32, 2], as tiles are multiplied.
    """
    outputs = len(weight)
    first = weight.new_zeros(outputs) if bias is None else bias.detach()
    rows = weight.detach().transpose(1, 2).flatten(1)
    if weight.dtype != torch.bfloat16:
        rows = F.pad(torch.cat([first[:, None], rows], 1), (0, 0, 0, -outputs % PANEL))
        return rows.unflatten(0, (-1, PANEL)).transpose(1, 2).float().contiguous()
    biases = F.pad(first.float(), (0, -outputs % TILE)).view(torch.bfloat16).reshape(-1, 2, TILE)
    rows = F.pad(rows, (0, 0 if depthwise else -rows.shape[1] % TILE, 0, -outputs % TILE)).unflatten(0, (-1, TILE))
    pairs = rows if depthwise else rows.unflatten(2, (-1, 2))
    return torch.cat([biases, pairs.transpose(1, 2).reshape(len(rows), -1, TILE)], 1)


def convolved(sizes: Sequence[int], stride: int, padding: Sequence[int]) -> Sequence[int]:
    """Height and width of what a 3x3 convolution makes of a map of these ``sizes``."""
    (height, width), (top, left, bottom, right) = sizes, padding
    return max((height + top + bottom - 3) // stride + 1, 0), max((width + left + right - 3) // stride + 1, 0)


class Chain(NamedTuple):
    """A 1x1 or 3x3, a depthwise 3x3 and two more 1x1 convolutions; all but ``project`` may be None.

    Each is clamped to its two ``limits``, in this order, the last one after ``other`` was added.

    Args:
        expand, depthwise, project, last: what :func:`chain_weight` makes.
        channels: that ``project`` reads, that it makes and, with ``last``, of the result.
        stride: of ``depthwise``, 1 or 2.
        padding: rows and columns of zeros around what ``depthwise`` sees, at most 2: top, left, bottom, right.
        input, other: which map it reads and which one, of its result's shape, it adds, or -1.
        up: 2 where ``other`` is half as high and wide: each of its pixels is added to four.
        window_stride, window_padding: of ``expand`` where that is 3x3, which it may be before ``depthwise``; 0: 1x1.
    """

    expand: Tensor | None
    depthwise: Tensor | None
    project: Tensor
    last: Tensor | None
    channels: Sequence[int]
    stride: int = 1
    padding: Sequence[int] = (0, 0, 0, 0)
    limits: Sequence[float] = NO_LIMITS
    input: int = 0
    other: int = -1
    up: int = 1
    window_stride: int = 0
    window_padding: Sequence[int] = (0, 0, 0, 0)


@input_errors
def conv_chains(inputs: Sequence[Tensor], chains: Sequence[Chain]) -> list[Tensor]:
    """Every chain of convolutions, on CPUs, in float32 or bfloat16. Maps are ``inputs``, then the results, from 0 on.

    What the convolutions of a chain pass on is computed tile by tile and never written to memory as a whole; threads
    are woken once for all chains. The numbers are those of the separate convolutions, sums in another order apart: in
    bfloat16 sums are float32, and each convolution's results are rounded. That is meant for machines with AMX; others
    compute the same by plain loops. Subnormal bfloat16 numbers may count as zero.

    Args:
        inputs: [N, C, H, W] each, best in channels_last; what a 3x3 ``expand`` reads, best not.
        chains: each reads and adds ``inputs`` and the results of those before it.

    Returns:
        per chain [N, outputs, H', W'] in channels_last.

    Example:
        >>> expand = chain_weight(torch.ones(8, 4, 1, 1))
        >>> depthwise = chain_weight(torch.ones(8, 1, 3, 3))
        >>> project = chain_weight(torch.ones(2, 8, 1, 1))
        >>> chain = Chain(expand, depthwise, project, None, (8, 2), padding=(1, 1, 1, 1))
        >>> conv_chains([torch.ones(1, 4, 3, 3)], [chain])[0][0, 0]
        tensor([[128., 192., 128.],
                [192., 288., 192.],
                [128., 192., 128.]])
    """
    weights: list[Tensor] = []
    numbers: list[int] = []
    limits: list[float] = []
    for chain in chains:
        stages = 0
        for bit, weight in ((1, chain.expand), (_DEPTHWISE, chain.depthwise), (0, chain.project), (4, chain.last)):
            if weight is not None:
                weights.append(weight)
                stages += bit
        numbers += (chain.input, chain.other, chain.up, stages, *chain.channels[:2], chain.channels[-1])
        numbers += (chain.stride, *chain.padding, chain.window_stride, *chain.window_padding)
        limits += chain.limits
    return _op(inputs, weights, numbers, limits)


@torch.library.register_fake("pyrcnn::_conv_chains")
def _(inputs: list[Tensor], weights: list[Tensor], chains: list[int], limits: list[float]) -> list[Tensor]:
    maps = list(inputs)
    for i in range(0, len(chains), _NUMBERS):
        source, _, _, stages, _, _, outputs = chains[i : i + 7]
        sizes: Sequence[int] = maps[source].shape[2:]
        stride, *padding = chains[i + 12 : i + 17]
        if stride:
            sizes = convolved(sizes, stride, padding)
        if stages & _DEPTHWISE:
            stride, *padding = chains[i + 7 : i + 12]
            sizes = convolved(sizes, stride, padding)
        result = maps[source].new_empty(maps[source].shape[0], outputs, *sizes)
        maps.append(result.contiguous(memory_format=torch.channels_last))
    return maps[len(inputs) :]
