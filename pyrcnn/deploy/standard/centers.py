"""CenterNet's peaks, boxes and keypoints (Zhou et al. 2019, section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .suppress import NONE, best, is_real


def heatmap_peaks(
    heatmap: Tensor, k: int, kernel: int, sigmoid: bool, tolerance: float, per_class: bool
) -> tuple[Tensor, ...]:
    """As the operator."""
    channels, width = heatmap.shape[1], heatmap.shape[3]
    scores = heatmap.sigmoid() if sigmoid else heatmap
    if tolerance > 0:
        peaks = F.max_pool2d(scores, kernel, 1, kernel // 2) - scores < tolerance
    else:
        peaks = F.max_pool2d(heatmap, kernel, 1, kernel // 2) == heatmap
    scores = torch.where(peaks & (scores > 0), scores, NONE)
    if per_class:
        chosen, cell = best(scores.flatten(2), k)  # [N, C, k]
        classes = torch.arange(channels, device=heatmap.device)[:, None].expand_as(cell)
    else:
        chosen, index = best(scores.permute(0, 2, 3, 1).flatten(1), k)  # [N, k], ordered by y, x, class
        cell, classes = index // channels, index % channels
    found = is_real(chosen)
    rest = [torch.where(found, value, 0) for value in (cell // width, cell % width)]
    return torch.where(found, chosen, 0.0), classes if per_class else torch.where(found, classes, 0), *rest


def values_at(maps: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """``maps`` [N, C, H, W] at the cells ``ys``, ``xs`` [N, k]: [N, C, k]."""
    index = (ys * maps.shape[3] + xs)[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, index)


def decode_centers(
    ys: Tensor, xs: Tensor, size: Tensor, offset: Tensor, stride: float, clamp_size: bool, clip: bool
) -> Tensor:
    """As the operator, for cells of the map."""
    height, width = size.shape[2:]
    extent, moved = values_at(size, ys, xs), values_at(offset, ys, xs)
    half = (extent.clamp(min=0) if clamp_size else extent) / 2
    y, x = ys + moved[:, 0], xs + moved[:, 1]
    corners = [x - half[:, 1], y - half[:, 0], x + half[:, 1], y + half[:, 0]]
    if clip:
        corners = [value.clamp(0, limit) for value, limit in zip(corners, (width, height) * 2, strict=True)]
    return torch.stack(corners, -1) * stride


def match_keypoints(
    ys: Tensor,
    xs: Tensor,
    heatmap: Tensor,
    regression: Tensor,
    offset: Tensor,
    boxes: Tensor | None,
    stride: float,
    image_sizes: Tensor | None,
    candidates: int,
    kernel: int,
    sigmoid: bool,
    tolerance: float,
    ranking: int,
    distance_offset: float,
    spreads: list[float],
    score_threshold: float,
    box_scale: float,
    max_distance: float,
    unmatched_score: float,
) -> tuple[Tensor, Tensor]:
    """As the operator, with candidates ranked by distance and inside boxes."""
    if ranking != 0 or boxes is None:
        return NotImplemented
    joints, pairs = heatmap.shape[1], offset.shape[1] // 2
    scores, _, py, px = heatmap_peaks(heatmap, candidates, kernel, sigmoid, tolerance, per_class=True)  # [N, J, c]
    cell = (py * heatmap.shape[3] + px)[:, :, None].expand(-1, -1, 2, -1)
    moves = offset.unflatten(1, (pairs, 2)).flatten(3).expand(-1, joints, -1, -1).gather(3, cell)  # [N, J, 2, c]
    points = torch.stack([py, px], 2) + moves
    centre = torch.stack([ys, xs], 1)[:, None]  # [N, 1, 2, k]
    guess = values_at(regression, ys, xs).unflatten(1, (joints, 2)) + centre  # [N, J, 2, k]
    distance = (points[:, :, :, None] - guess[..., None]).square().sum(2).sqrt()  # [N, J, k, c]
    real = (scores >= score_threshold) & (scores > 0)
    distance = torch.where(real[:, :, None], distance, -NONE)
    nearest = distance.argmin(3)  # [N, J, k]
    chosen = points.gather(3, nearest[:, :, None].expand(-1, -1, 2, -1))  # [N, J, 2, k]
    score = scores.gather(2, nearest)
    x1, y1, x2, y2 = (boxes / stride).unbind(-1)  # [N, k]
    side = torch.maximum(x2 - x1, y2 - y1)
    middle = torch.stack([(y1 + y2) / 2, (x1 + x2) / 2], 1)[:, None]
    reach = torch.stack([y2 - y1, x2 - x1], 1)[:, None] * (box_scale / 2)
    near = ((chosen - middle).abs() <= reach).all(2) & (distance.amin(3) <= (max_distance * box_scale) * side[:, None])
    result = torch.where(near[:, :, None], chosen, guess) * stride  # [N, J, 2, k] as y, x
    score = torch.where(near, score, unmatched_score)
    if image_sizes is not None:
        limit = image_sizes.to(result.dtype)[:, None, :, None]
        inside = ((result >= 0) & (result <= limit)).all(2)
        score = torch.where(inside, score, 0.0)
        result = torch.minimum(result.clamp(min=0), limit)
    return result.flip(2).permute(0, 3, 1, 2), score.transpose(1, 2)
