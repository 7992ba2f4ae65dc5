"""The anchors of feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import require
from ._register import input_errors, no_gradient, register_fake

_op = torch.ops.pyrcnn.grid_anchors.default

Stride = float | tuple[float, float]


def stride_pair(stride: Stride | Sequence[float]) -> tuple[float, float]:
    """Return a stride, ``16`` or ``(16, 8)``, as (vertical, horizontal)."""
    if isinstance(stride, (int, float)):
        return float(stride), float(stride)
    require(len(stride) == 2, f"strides must be numbers or (vertical, horizontal) pairs, got {stride}")
    return float(stride[0]), float(stride[1])


@input_errors
def grid_anchors(
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[Stride],
    cell_anchors: Sequence[Tensor],
    offset: float = 0.0,
) -> list[Tensor]:
    """Return each level's anchors [H * W * A, 4]: its cell anchors moved to every cell.

    The anchor is the fastest index.

    Args:
        feature_sizes: per level, (H, W) of the feature map.
        strides: per level, pixels per cell: a number, or (vertical, horizontal).
        cell_anchors: per level, boxes [A, 4] around the point (0, 0), x1 y1 x2 y2 in pixels.
        offset: cell (y, x) moves them by ((x + offset) * stride, (y + offset) * stride). 0.0 is torchvision's and
            detectron2's convention, 0.5 the centres of the cells.

    Returns:
        one tensor per level, in the dtype and on the device of its cell anchors.

    Raises:
        InputError: if the arguments have different numbers of levels.

    Source: Ren et al. 2015, section 3.1.1.

    Example:
        >>> grid_anchors([(1, 2)], [16], [torch.tensor([[-8.0, -8.0, 8.0, 8.0]])])
        [tensor([[-8., -8.,  8.,  8.],
                [ 8., -8., 24.,  8.]])]
    """
    levels = len(cell_anchors)
    require(len(feature_sizes) == levels, f"feature_sizes must be {levels}, one per level, got {len(feature_sizes)}")
    require(len(strides) == levels, f"strides must be {levels}, one per level, got {len(strides)}")
    return [
        _op(cell, height, width, *stride_pair(stride), offset)
        for (height, width), stride, cell in zip(feature_sizes, strides, cell_anchors, strict=True)
    ]


@register_fake("grid_anchors")
def _(cell_anchors: Tensor, height: int, width: int, stride_y: float, stride_x: float, offset: float) -> Tensor:
    return cell_anchors.new_empty((height * width * cell_anchors.shape[0], 4))


no_gradient("grid_anchors")
