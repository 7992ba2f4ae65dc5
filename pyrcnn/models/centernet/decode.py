"""Raw maps to detections: peaks of the class heat map, a box at each, and its joints."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PEAK_TOLERANCE = 1e-6  # a cell counts as its neighbourhood's maximum when this close to it, as in TF


def find_peaks(heatmap: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The ``k`` best 3x3 maxima over all classes of raw [N, C, H, W] → scores, classes, ys, xs, each [N, k].

    Descending score; ties in the order (y, x, class). Missing peaks have score 0.
    """
    count, channels, _, width = heatmap.shape
    score = heatmap.sigmoid()
    highest = F.max_pool2d(score, 3, stride=1, padding=1)
    score = torch.where((score - highest).abs() < PEAK_TOLERANCE, score, 0.0)
    flat = score.permute(0, 2, 3, 1).reshape(count, -1)
    scores, index = flat.sort(dim=1, descending=True, stable=True)
    scores, index = scores[:, :k], index[:, :k]
    cell = index // channels
    return scores, index % channels, cell // width, cell % width


def gather_cells(maps: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """[N, C, H, W] at cells ys, xs [N, k] → [N, k, C]."""
    index = (ys * maps.shape[3] + xs)[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, index).transpose(1, 2)


def boxes_at(ys: Tensor, xs: Tensor, size: Tensor, offset: Tensor) -> Tensor:
    """Boxes [N, k, 4] in cells from the raw maps [N, 2, H, W]: centre = cell + offset, negative sizes count as 0.

    Clipped to the map, 0..H and 0..W.
    """
    height, width = size.shape[-2:]
    extent = gather_cells(size, ys, xs).clamp(min=0).flip(-1)
    centre = torch.stack([xs, ys], dim=-1) + gather_cells(offset, ys, xs).flip(-1)
    limit = extent.new_tensor([width, height])
    low, high = centre - extent / 2, centre + extent / 2
    return torch.cat([low.clamp(min=0).minimum(limit), high.clamp(min=0).minimum(limit)], dim=-1)


def to_input_pixels(boxes: Tensor, sizes: Tensor, stride: int) -> Tensor:
    """Cells → pixels of the network input, clipped to the unpadded picture; ``sizes`` [N, 2] (h, w)."""
    limit = sizes.flip(-1).repeat(1, 2)[:, None].to(boxes.dtype)
    return (boxes * stride).clamp(min=0).minimum(limit)
