"""RoIPool as Girshick 2015 describes it (section 2.1), with the rounding of its published code, bin by bin."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _round(value: float) -> int:
    """Return the nearest integer; halves are rounded away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _cells(low: float, high: float, bins: int, p: int, size: int) -> range:
    start, end = _round(low), _round(high)
    bin_size = max(end - start + 1, 1) / bins
    first, last = start + math.floor(p * bin_size), start + math.ceil((p + 1) * bin_size)
    return range(min(max(first, 0), size), min(max(last, 0), size))


def roi_pool(input: Tensor, boxes: Tensor, output_size: tuple[int, int], spatial_scale: float = 1.0) -> Tensor:
    """Return [K, C, height, width] for ``input`` [N, C, H, W] and ``boxes`` [K, 5]; bins without a cell are 0."""
    rows, columns = output_size
    out = input.new_zeros(len(boxes), input.shape[1], rows, columns)
    for k, (index, *box) in enumerate(boxes.tolist()):
        if not all(map(math.isfinite, box)):
            continue
        x1, y1, x2, y2 = (v * spatial_scale for v in box)
        for p in range(rows):
            ys = _cells(y1, y2, rows, p, input.shape[2])
            for q in range(columns):
                xs = _cells(x1, x2, columns, q, input.shape[3])
                if len(ys) and len(xs):
                    cells = input[int(index), :, ys.start : ys.stop, xs.start : xs.stop]
                    out[k, :, p, q] = torch.amax(cells, dim=(1, 2))
    return out
