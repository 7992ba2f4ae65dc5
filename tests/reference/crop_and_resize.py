"""TensorFlow's crop_and_resize, one sample at a time, differentiable in the features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def positions(start: float, end: float, samples: int, size: int) -> list[float]:
    if samples == 1:
        return [0.5 * (start + end) * (size - 1)]
    return [start * (size - 1) + i * ((end - start) * (size - 1) / (samples - 1)) for i in range(samples)]


def crop_and_resize(
    features: Tensor, boxes: Tensor, box_indices: Tensor, output_size: Sequence[int], extrapolation: float = 0.0
) -> Tensor:
    height, width = features.shape[2:]
    rows, columns = output_size
    crops = []
    for box, n in zip(boxes.tolist(), box_indices.tolist(), strict=True):
        y1, x1, y2, x2 = box
        for y in positions(y1, y2, rows, height):
            for x in positions(x1, x2, columns, width):
                if not (0 <= y <= height - 1 and 0 <= x <= width - 1):
                    crops.append(torch.full_like(features[n, :, 0, 0], extrapolation))
                    continue
                top, left, bottom, right = math.floor(y), math.floor(x), math.ceil(y), math.ceil(x)
                above = features[n, :, top, left] * (1 - (x - left)) + features[n, :, top, right] * (x - left)
                below = features[n, :, bottom, left] * (1 - (x - left)) + features[n, :, bottom, right] * (x - left)
                crops.append(above * (1 - (y - top)) + below * (y - top))
    if not crops:
        return features.new_zeros(0, features.shape[1], rows, columns)
    return torch.stack(crops).reshape(len(boxes), rows, columns, -1).permute(0, 3, 1, 2)
