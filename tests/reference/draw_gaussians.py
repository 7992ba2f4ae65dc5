"""CenterNet's target maps, one cell at a time (Zhou et al. 2019, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def draw_gaussians(
    shape: Sequence[int],
    centers: Tensor,
    sigmas: Tensor,
    classes: Tensor,
    weights: Tensor | None = None,
    channels_last: bool = False,
) -> Tensor:
    maps = centers.new_zeros(*shape)
    images, channels, height, width = shape
    for n in range(images):
        for g in range(centers.shape[1]):
            c, sigma = int(classes[n, g]), float(sigmas[n, g])
            x, y = (math.floor(float(v)) for v in centers[n, g])
            weight = 1.0 if weights is None else float(weights[n, g])
            if not (0 <= c < channels and sigma > 0):
                continue
            for v in range(height):
                for u in range(width):
                    value = weight * math.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * sigma * sigma))
                    maps[n, c, v, u] = max(float(maps[n, c, v, u]), value)
    return maps
