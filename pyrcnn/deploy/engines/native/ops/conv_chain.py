"""Several convolutions computed block by block, without writing the maps between them to memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .....ops._register import input_errors, register_fake

_op = torch.ops.pyrcnn._conv_chains.default
PANEL = 16  # output channels whose weights are contiguous
NO_LIMITS = (-math.inf, math.inf) * 4
_NUMBERS, _DEPTHWISE = 17, 2  # integers per chain, and the bit of that stage: as in csrc's conv_chain_check.h


def chain_weight(weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The weight of a 1x1, depthwise 3x3 or 3x3 convolution, and its bias [outputs], as :func:`conv_chains` takes it.

    Returns [panels, 1 + inputs, 16], [panels, 1 + 9, 16] or [panels, 1 + 9 * inputs, 16] float32. A panel holds 16
    outputs; zeros fill the last one. Its first row is the bias. The rows of a 3x3 kernel are ordered by kernel row,
    kernel column, input channel.
    """
    first = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    rows = weight.detach().transpose(1, 2).flatten(1)
    rows = F.pad(torch.cat([first[:, None], rows], 1), (0, 0, 0, -len(weight) % PANEL))
    return rows.unflatten(0, (-1, PANEL)).transpose(1, 2).float().contiguous()


def conv3x3_size(size: Sequence[int], stride: int, padding: Sequence[int]) -> Sequence[int]:
    """Height and width of the result of a 3x3 convolution; ``padding``: top, left, bottom, right."""
    (height, width), (top, left, bottom, right) = size, padding
    return max((height + top + bottom - 3) // stride + 1, 0), max((width + left + right - 3) // stride + 1, 0)


class Chain(NamedTuple):
    """A 1x1 or 3x3, a depthwise 3x3 and two more 1x1 convolutions; all but ``project`` may be None.

    The result of each is clamped to two of the ``limits``, in this order; the last one after ``other`` is added.

    Args:
        expand, depthwise, project, last: what :func:`chain_weight` returns.
        channels: inputs of ``project``, outputs of ``project``, outputs of the chain.
        stride: of ``depthwise``, 1 or 2.
        padding: rows and columns of zeros around the input of ``depthwise``, at most 2: top, left, bottom, right.
        input, other: index of the map to read, and of the map to add or -1.
        up: 2 if ``other`` has half the height and width: each of its pixels is added to four.
        window_stride: stride of a 3x3 ``expand``, which requires ``depthwise``; 0: ``expand`` is 1x1.
        window_padding: padding of a 3x3 ``expand``, as ``padding``.
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
    """The results of all chains, on CPUs, in float32. Each chain reads ``inputs`` and results of the chains before it.

    Indices of maps count the inputs first, then the results. Maps inside a chain exist only block by block, in the
    cache; the threads start once for all chains. Results equal those of the separate convolutions except for the
    order of summation.

    Args:
        inputs: [N, C, H, W] each, fastest in channels_last; the input of a 3x3 ``expand`` fastest in NCHW.
        chains: what to compute.

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


@register_fake("_conv_chains")
def _(inputs: list[Tensor], weights: list[Tensor], chains: list[int], limits: list[float]) -> list[Tensor]:
    maps = list(inputs)
    for i in range(0, len(chains), _NUMBERS):
        source, _, _, stages, _, _, outputs = chains[i : i + 7]
        size: Sequence[int] = maps[source].shape[2:]
        stride, *padding = chains[i + 12 : i + 17]
        if stride:
            size = conv3x3_size(size, stride, padding)
        if stages & _DEPTHWISE:
            stride, *padding = chains[i + 7 : i + 12]
            size = conv3x3_size(size, stride, padding)
        result = maps[source].new_empty(maps[source].shape[0], outputs, *size)
        maps.append(result.contiguous(memory_format=torch.channels_last))
    return maps[len(inputs) :]
