"""CenterNet's target maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import require
from ._register import input_errors, no_gradient, register_fake

_op = torch.ops.pyrcnn.draw_gaussians.default


@input_errors
def draw_gaussians(
    shape: Sequence[int],
    centers: Tensor,
    sigmas: Tensor,
    classes: Tensor,
    weights: Tensor | None = None,
    channels_last: bool = False,
) -> Tensor:
    """Return maps with a Gaussian for every object (Zhou et al. 2019, "Objects as Points", section 3).

    ``out[n, c, y, x]`` is the maximum over the objects of image n and class c of ``weight * exp(-d² / (2 sigma²))``,
    and at least 0. d is the distance from (x, y) to the cell that holds the centre; that cell is exactly ``weight``.

    Args:
        shape: (N, C, H, W) of the maps.
        centers: [N, G, 2], x and y in cells; rounded down to a cell. Centres may lie outside the map.
        sigmas: [N, G], in cells.
        classes: [N, G] int64. An object of a class outside 0..C-1 is not drawn; pad with -1.
        weights: [N, G], or None for 1.
        channels_last: the memory format of the maps.

    Returns:
        [N, C, H, W] in the dtype of ``centers``, without a gradient. Values below 2^-25 (2^-54 in float64), which
        ``1 - value`` cannot distinguish from 0, are 0. Objects with a NaN, or with a sigma or weight that is not
        positive, are not drawn.

    Raises:
        InputError: for wrong shapes, dtypes or devices.

    Example:
        >>> center, sigma = torch.tensor([[[2.5, 1.0]]]), torch.tensor([[1.0]])
        >>> maps = draw_gaussians((1, 1, 4, 4), center, sigma, torch.tensor([[0]]))
        >>> maps[0, 0, 1, 2].item(), round(maps[0, 0, 2, 2].item(), 4)
        (1.0, 0.6065)
    """
    require(len(shape) == 4, f"shape must be (N, C, H, W), got {tuple(shape)}")
    n, c, h, w = shape
    require(n == len(centers), f"shape must be ({len(centers)}, C, H, W) for these centers, got {tuple(shape)}")
    return _op(centers, sigmas, classes, weights, c, h, w, channels_last)


@register_fake("draw_gaussians")
def _(
    centers: Tensor,
    sigmas: Tensor,
    classes: Tensor,
    weights: Tensor | None,
    channels: int,
    height: int,
    width: int,
    channels_last: bool,
) -> Tensor:
    maps = centers.new_empty((centers.shape[0], channels, height, width))
    return maps.contiguous(memory_format=torch.channels_last) if channels_last else maps


no_gradient("draw_gaussians")
