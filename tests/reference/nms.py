"""Greedy non-maximum suppression by its definition: the IoU of all pairs, then the boxes by descending score."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def iou_matrix(boxes: Tensor) -> Tensor:
    """Return the IoU [K, K] of all pairs of ``boxes`` [K, 4], each operation rounded to their dtype; 0 / 0 is NaN."""
    x1, y1, x2, y2 = boxes.unbind(1)
    areas = (x2 - x1) * (y2 - y1)
    widths = torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1)
    heights = torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1)
    zero = boxes.new_zeros(())
    overlap = torch.where(widths > 0, widths, zero) * torch.where(heights > 0, heights, zero)
    return overlap / (areas[:, None] + areas - overlap)


def visiting_order(scores: list[float]) -> list[int]:
    """Return the order of descending scores, ties by lower index, NaN first."""
    return sorted(range(len(scores)), key=lambda i: (0, 0.0) if math.isnan(scores[i]) else (1, -scores[i]))


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices kept, by descending score; all arithmetic is in the dtype of ``boxes``."""
    return batched_nms(boxes, scores, torch.zeros(len(boxes), dtype=torch.int64), iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices kept after suppression within each category."""
    exceeds = (iou_matrix(boxes) > torch.tensor(iou_threshold, dtype=boxes.dtype)).tolist()
    category = idxs.tolist()
    kept: list[int] = []
    for i in visiting_order(scores.tolist()):
        if not any(category[k] == category[i] and exceeds[k][i] for k in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


def nms_padded(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_output: int,
    groups: Tensor | None = None,
    score_threshold: float = -math.inf,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Filter, suppress, cut off and pad with -1, image by image."""
    images, rows = scores.shape
    indices = torch.full((images, max_output), -1)
    counts = torch.zeros(images, dtype=torch.int64)
    for n in range(images):
        limit = rows if valid is None else min(max(int(valid[n]), 0), rows)
        passing = [i for i in range(limit) if float(scores[n, i]) > score_threshold]
        of = torch.zeros(rows, dtype=torch.int64) if groups is None else groups[n]
        kept = batched_nms(boxes[n, passing], scores[n, passing], of[passing], iou_threshold)[:max_output]
        counts[n] = len(kept)
        indices[n, : len(kept)] = torch.tensor(passing, dtype=torch.int64)[kept]
    return indices, counts
