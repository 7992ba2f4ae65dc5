"""Convolutions in a row without the maps between them, for optimized networks on CPUs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ._register import input_errors

_op = torch.ops.pyrcnn._conv_chain.default
PANEL = 16  # outputs whose weights lie together
NO_LIMITS = (-math.inf, math.inf) * 4


def chain_weight(weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The weight of a 1x1 or depthwise 3x3 convolution, and its bias [outputs], as :func:`conv_chain` takes it.

    Returns [panels, 1 + inputs, 16] or [panels, 1 + 9, 16] float32: panels of 16 outputs, the last one filled with
    zeros, the bias first.
    """
    outputs = len(weight)
    first = weight.new_zeros(outputs, 1) if bias is None else bias.detach()[:, None]
    rows = torch.cat([first, weight.detach().flatten(1)], 1)
    rows = F.pad(rows, (0, 0, 0, -outputs % PANEL))
    return rows.unflatten(0, (-1, PANEL)).transpose(1, 2).float().contiguous()


@input_errors
def conv_chain(
    input: Tensor,
    expand: Tensor | None,
    depthwise: Tensor | None,
    project: Tensor,
    last: Tensor | None,
    other: Tensor | None,
    outputs: int,
    stride: int = 1,
    padding: Sequence[int] = (0, 0, 0, 0),
    limits: Sequence[float] = NO_LIMITS,
) -> Tensor:
    """``input`` [N, C, H, W] through a 1x1, a depthwise 3x3 and two more 1x1 convolutions, on CPUs in float32 alone.

    All but ``project`` may be None. Each is clamped to its two ``limits``, in this order, the last one after ``other``
    was added. What they pass on is computed tile by tile and never written to memory as a whole; the numbers are those
    of the separate convolutions, sums in another order apart.

    Args:
        expand, depthwise, project, last: what :func:`chain_weight` makes.
        other: of the result's shape.
        outputs: channels of the result.
        stride: of ``depthwise``, 1 or 2.
        padding: rows and columns of zeros around what ``depthwise`` sees, at most 2: top, left, bottom, right.

    Returns:
        [N, outputs, H', W'] in channels_last, which is also what ``input`` and ``other`` best are.

    Example:
        >>> expand = chain_weight(torch.ones(8, 4, 1, 1))
        >>> depthwise = chain_weight(torch.ones(8, 1, 3, 3))
        >>> project = chain_weight(torch.ones(2, 8, 1, 1))
        >>> conv_chain(torch.ones(1, 4, 3, 3), expand, depthwise, project, None, None, 2, 1, (1, 1, 1, 1))[0, 0]
        tensor([[128., 192., 128.],
                [192., 288., 192.],
                [128., 192., 128.]])
    """
    return _op(input, expand, depthwise, project, last, other, outputs, stride, padding, limits)


@torch.library.register_fake("pyrcnn::_conv_chain")
def _(
    input: Tensor,
    expand: Tensor | None,
    depthwise: Tensor | None,
    project: Tensor,
    last: Tensor | None,
    other: Tensor | None,
    outputs: int,
    stride: int,
    padding: Sequence[int],
    limits: Sequence[float],
) -> Tensor:
    height, width = input.shape[2:]
    if depthwise is not None:
        height = max((height + padding[0] + padding[2] - 3) // stride + 1, 0)
        width = max((width + padding[1] + padding[3] - 3) // stride + 1, 0)
    shape = (input.shape[0], outputs, height, width)
    return input.new_empty(shape).contiguous(memory_format=torch.channels_last)
