"""CenterNet's boxes, one cell at a time (Zhou et al. 2019, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor


def decode_centers(
    ys: Tensor, xs: Tensor, size: Tensor, offset: Tensor, stride: float, clamp_size: bool = True, clip: bool = True
) -> Tensor:
    height, width = size.shape[2:]
    images, k = ys.shape
    boxes = size.new_zeros(images, k, 4)
    for n in range(images):
        for i in range(k):
            y, x = int(ys[n, i]), int(xs[n, i])
            if not (0 <= y < height and 0 <= x < width):
                continue
            extent = size[n, :, y, x]
            h, w = extent.clamp(min=0) if clamp_size else extent
            cy, cx = y + offset[n, 0, y, x], x + offset[n, 1, y, x]
            box = torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
            if clip:
                box = torch.stack([v.clamp(0, limit) for v, limit in zip(box, (width, height) * 2, strict=True)])
            boxes[n, i] = box * stride
    return boxes
