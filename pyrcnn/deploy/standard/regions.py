"""Regions of feature maps from the operators of one map that other runtimes have."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.faster_rcnn.roi_head import level_of


def roi_align(
    features: list[Tensor],
    rois: Tensor,
    scales: list[float],
    height: int,
    width: int,
    sampling_ratio: int,
    aligned: bool,
    canonical_size: float,
    canonical_level: int,
) -> Tensor:
    """As the operator: each level pools the regions that belong to it."""
    if len(features) == 1 or (canonical_size, canonical_level) != (224, 4):
        return NotImplemented  # ONNX: RoiAlign
    levels = level_of(rois[:, 1:], scales)
    result = features[0].new_zeros(rois.shape[0], features[0].shape[1], height, width)
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        here = (levels == level).nonzero()[:, 0]
        part = torch.ops.pyrcnn.roi_align(
            [feature], rois[here], [scale], height, width, sampling_ratio, aligned, canonical_size, canonical_level
        )
        result = result.index_put((here,), part)
    return result


def crop_and_resize(
    features: Tensor, boxes: Tensor, box_indices: Tensor, rows: int, columns: int, extrapolation: float
) -> Tensor:
    """As the operator, for equally many boxes of each image, in the order of the images."""
    if extrapolation != 0:
        return NotImplemented
    images, channels, height, width = features.shape

    def places(low: Tensor, high: Tensor, side: int, count: int) -> tuple[Tensor, Tensor]:
        """Where ``count`` samples of each box lie on an axis, from -1 to 1, and which are outside the map."""
        steps = (
            torch.linspace(0, 1, count, device=boxes.device)
            if count > 1
            else torch.full((1,), 0.5, device=boxes.device)
        )
        at = low[:, None] * (side - 1) + steps * ((high - low) * (side - 1))[:, None]  # [N * P, count]
        outside = (at < 0) | (at > side - 1)
        return at * (2 / max(side - 1, 1)) - 1, outside

    y, outside_y = places(boxes[:, 0], boxes[:, 2], height, rows)
    x, outside_x = places(boxes[:, 1], boxes[:, 3], width, columns)
    grid = torch.stack([x[:, None].expand(-1, rows, -1), y[:, :, None].expand(-1, -1, columns)], -1)
    grid = grid.reshape(images, -1, columns, 2)  # [N, P * rows, columns, 2]
    crops = F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=True)
    crops = crops.reshape(images, channels, -1, rows, columns).transpose(1, 2).flatten(0, 1)
    return torch.where((outside_y[:, :, None] | outside_x[:, None])[:, None], 0.0, crops)
