"""Chains of convolutions in plain loops, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Layer = tuple[Tensor, Tensor, float, float]  # weight, bias, limits


def _clamp(value: float, low: float, high: float) -> float:
    return low if value < low else high if value > high else value  # NaN stays


def pointwise(x: Tensor, layer: Layer, other: Tensor | None = None) -> Tensor:
    """A 1x1 convolution of ``x`` [N, C, H, W], plus ``other``, clamped."""
    weight, bias, low, high = layer
    n, _, h, w = x.shape
    out = torch.empty(n, len(weight), h, w, dtype=torch.float64)
    for i in range(n):
        for y in range(h):
            for z in range(w):
                for o in range(len(weight)):
                    total = bias[o].double() + (weight[o, :, 0, 0].double() * x[i, :, y, z].double()).sum()
                    if other is not None:
                        total += other[i, o, y, z].double()
                    out[i, o, y, z] = _clamp(total.item(), low, high)
    return out


def depthwise(x: Tensor, layer: Layer, stride: int, padding: Sequence[int]) -> Tensor:
    """A 3x3 convolution of each channel by itself; ``padding`` with zeros: top, left, bottom, right."""
    weight, bias, low, high = layer
    n, c, h, w = x.shape
    top, left, bottom, right = padding
    rows = max((h + top + bottom - 3) // stride + 1, 0)
    columns = max((w + left + right - 3) // stride + 1, 0)
    out = torch.empty(n, c, rows, columns, dtype=torch.float64)
    for i in range(n):
        for k in range(c):
            for y in range(rows):
                for z in range(columns):
                    total = bias[k].item()
                    for a in range(3):
                        for b in range(3):
                            row, column = y * stride + a - top, z * stride + b - left
                            if 0 <= row < h and 0 <= column < w:
                                total += weight[k, 0, a, b].item() * x[i, k, row, column].item()
                    out[i, k, y, z] = _clamp(total, low, high)
    return out


def window(x: Tensor, layer: Layer, stride: int, padding: Sequence[int]) -> Tensor:
    """A 3x3 convolution of all channels; ``padding`` with zeros: top, left, bottom, right."""
    weight, bias, low, high = layer
    top, left, bottom, right = padding
    n, c, h, w = x.shape
    padded = torch.zeros(n, c, h + top + bottom, w + left + right, dtype=torch.float64)
    padded[:, :, top : top + h, left : left + w] = x
    rows, columns = max((padded.shape[2] - 3) // stride + 1, 0), max((padded.shape[3] - 3) // stride + 1, 0)
    out = torch.empty(n, len(weight), rows, columns, dtype=torch.float64)
    for i in range(n):
        for y in range(rows):
            for z in range(columns):
                seen = padded[i, :, y * stride : y * stride + 3, z * stride : z * stride + 3]
                for o in range(len(weight)):
                    total = bias[o].double() + (weight[o].double() * seen).sum()
                    out[i, o, y, z] = _clamp(total.item(), low, high)
    return out


def doubled(x: Tensor) -> Tensor:
    """Twice the height and width, each pixel repeated."""
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def conv_chain(
    x: Tensor,
    expand: Layer | None,
    filters: Layer | None,
    project: Layer,
    last: Layer | None,
    other: Tensor | None,
    stride: int,
    padding: Sequence[int],
    window_stride: int = 0,
    window_padding: Sequence[int] = (0, 0, 0, 0),
) -> Tensor:
    """The given layers one after another; the first is 3x3 if ``window_stride`` is not 0."""
    if expand is not None:
        x = window(x, expand, window_stride, window_padding) if window_stride else pointwise(x, expand)
    if filters is not None:
        x = depthwise(x, filters, stride, padding)
    x = pointwise(x, project, None if last is not None else other)
    return x if last is None else pointwise(x, last, other)
