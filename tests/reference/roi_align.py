"""RoIAlign as He et al. 2017 define it (section 3), and the choice of levels of Lin et al. 2017, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def bilinear(image: Tensor, y: float, x: float) -> Tensor:
    """Return ``image`` [C, H, W] at a point: border values up to one pixel outside, 0 beyond."""
    channels, height, width = image.shape
    if not (height > 0 and width > 0 and -1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(channels)
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    total = image.new_zeros(channels)
    for row, weight_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, weight_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            if weight_y > 0 and weight_x > 0:
                total = total + weight_y * weight_x * image[:, row, column]
    return total


def _extent(low: float, high: float, scale: float, aligned: bool) -> tuple[float, float]:
    offset = 0.5 if aligned else 0.0
    start, end = low * scale - offset, high * scale - offset
    return start, (end - start) if aligned else max(end - start, 1.0)


def _points(start: float, extent: float, bins: int, p: int, samples: int) -> list[float]:
    return [start + extent / bins * (p + (i + 0.5) / samples) for i in range(samples)]


def roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Return [K, C, height, width] for ``input`` [N, C, H, W] and ``boxes`` [K, 5]."""
    rows, columns = output_size
    out = input.new_zeros(len(boxes), input.shape[1], rows, columns)
    for k, (index, x1, y1, x2, y2) in enumerate(boxes.tolist()):
        if not all(map(math.isfinite, (x1, y1, x2, y2))):
            continue
        start_y, extent_y = _extent(y1, y2, spatial_scale, aligned)
        start_x, extent_x = _extent(x1, x2, spatial_scale, aligned)
        samples_y = sampling_ratio if sampling_ratio > 0 else math.ceil(extent_y / rows)
        samples_x = sampling_ratio if sampling_ratio > 0 else math.ceil(extent_x / columns)
        for p in range(rows):
            for q in range(columns):
                for y in _points(start_y, extent_y, rows, p, samples_y):
                    for x in _points(start_x, extent_x, columns, q, samples_x):
                        out[k, :, p, q] += bilinear(input[int(index)], y, x) / (samples_y * samples_x)
    return out


def level_of(box: Sequence[float], scales: Sequence[float], canonical_size: float, canonical_level: int) -> int:
    """Return the index of the feature map, of those with these ``scales``, that the box (x1, y1, x2, y2) reads."""
    first = round(-math.log2(scales[0]))
    area = (box[2] - box[0]) * (box[3] - box[1])
    if not area > 0:
        return 0
    if math.isinf(area):
        return len(scales) - 1
    level = math.floor(canonical_level + math.log2(math.sqrt(area) / canonical_size) + 1e-6)
    return min(max(level - first, 0), len(scales) - 1)


def roi_align_levels(
    features: Sequence[Tensor],
    rois: Tensor,
    output_size: tuple[int, int],
    scales: Sequence[float],
    sampling_ratio: int = 2,
    aligned: bool = False,
    canonical_size: float = 224,
    canonical_level: int = 4,
) -> Tensor:
    """Return [K, C, height, width] for ``features`` [N, C, H, W] per level and ``rois`` [K, 5]."""
    out = features[0].new_zeros(len(rois), features[0].shape[1], *output_size)
    for k in range(len(rois)):
        level = level_of(rois[k, 1:].tolist(), scales, canonical_size, canonical_level)
        args = (rois[k : k + 1], output_size, scales[level], sampling_ratio, aligned)
        out[k] = roi_align(features[level], *args)[0]
    return out
