"""Boxes of both stages of Faster R-CNN: what ``generate_proposals`` and ``roi_detections`` compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .suppress import NONE, best, is_real, suppress, take


def decode(deltas: Tensor, anchors: Tensor, weights: Sequence[float], clip: float) -> Tensor:
    """The boxes [..., 4] that ``deltas`` [..., 4] make of ``anchors`` [..., 4] (Girshick et al. 2014)."""
    x1, y1, x2, y2 = anchors.unbind(-1)
    dx, dy, dw, dh = (d / w for d, w in zip(deltas.unbind(-1), weights, strict=True))
    width, height = x2 - x1, y2 - y1
    x, y = x1 + width / 2 + dx * width, y1 + height / 2 + dy * height
    half_x, half_y = width * dw.clamp(max=clip).exp() / 2, height * dh.clamp(max=clip).exp() / 2
    return torch.stack([x - half_x, y - half_y, x + half_x, y + half_y], -1)


def clip_to(boxes: Tensor, sizes: Tensor) -> Tensor:
    """``boxes`` [N, K, 4] clipped to images of ``sizes`` [N, 2] (height, width)."""
    limit = sizes.to(boxes.dtype).flip(-1).repeat(1, 2)[:, None]
    return torch.minimum(boxes.clamp(min=0), limit)


def have_size(boxes: Tensor, least: float) -> Tensor:
    """Whether both sides of ``boxes`` [..., 4] are at least ``least``."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= least).all(-1)


def decode_boxes(
    deltas: Tensor, anchors: Tensor, repeat: int, weights: list[float], clip: float, size: list[float]
) -> Tensor:
    """As the operator, where each row of deltas has an anchor, or all images have the same anchors."""
    if repeat != 1 or size:
        return NotImplemented
    return decode(deltas, anchors, weights, clip)


def grid_anchors(cell: Tensor, height: Any, width: Any, stride_y: Any, stride_x: Any, offset: float) -> Tensor:
    """As the operator: [H * W * A, 4]."""
    y = (torch.arange(height, device=cell.device, dtype=cell.dtype) + offset) * stride_y
    x = (torch.arange(width, device=cell.device, dtype=cell.dtype) + offset) * stride_x
    at = torch.stack([x[None].expand(height, width), y[:, None].expand(height, width)] * 2, -1)  # [H, W, 4]
    return (at[:, :, None] + cell).flatten(0, 2)


def generate_proposals(
    objectness: list[Tensor],
    deltas: list[Tensor],
    cell_anchors: list[Tensor],
    strides: list[float],
    image_sizes: Tensor,
    pre: int,
    post: int,
    nms_threshold: float,
    min_size: float,
    weights: list[float],
    clip: float,
    offset: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As the operator."""
    boxes, scores = [], []
    for level, (logits, codes, cell) in enumerate(zip(objectness, deltas, cell_anchors, strict=True)):
        height, width = logits.shape[-2:]
        down, across = (
            stride or int(first) * side // cells
            for stride, first, side, cells in zip(
                strides[2 * level :][:2], strides[:2], objectness[0].shape[-2:], (height, width), strict=True
            )
        )
        anchors = grid_anchors(cell, height, width, down, across, offset)
        chosen, index = best(logits.permute(0, 2, 3, 1).flatten(1), pre)  # [N, pre]
        rows = take(codes.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)), index)
        places = take(anchors.expand(logits.shape[0], -1, -1), index)
        boxes.append(clip_to(decode(rows, places, weights, clip), image_sizes))
        scores.append(torch.where(have_size(boxes[-1], min_size), chosen, NONE))
    box, score = torch.stack(boxes, 1), torch.stack(scores, 1)  # [N, L, pre, 4] and [N, L, pre]
    kept = suppress(box.flatten(0, 1), score.flatten(0, 1), nms_threshold, post)
    score = torch.where(kept.unflatten(0, (-1, len(boxes))), score, NONE).flatten(1)
    chosen, index = best(score, post)
    found = is_real(chosen)
    result = torch.where(found[..., None], take(box.flatten(1, 2), index), 0.0)
    return result, torch.where(found, chosen.sigmoid(), 0.0), found.sum(1)


def roi_detections(
    class_logits: Tensor,
    box_deltas: Tensor,
    proposals: Tensor,
    counts: Tensor,
    image_sizes: Tensor,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
    weights: list[float],
    clip: float,
    min_size: float,
    background_first: bool,
    max_per_class: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As the operator, with the background first."""
    count, columns = class_logits.shape[1:]
    classes = columns - 1
    if not background_first or box_deltas.shape[2] == 4 * columns:
        return NotImplemented
    scores = class_logits.softmax(-1)[..., 1:]  # [N, P, C]
    boxes = decode(box_deltas.unflatten(-1, (-1, 4)), proposals[:, :, None], weights, clip)  # [N, P, C or 1, 4]
    boxes = clip_to(boxes.expand(-1, -1, classes, -1).transpose(1, 2).flatten(1, 2), image_sizes)
    boxes = boxes.unflatten(1, (classes, -1))  # [N, C, P, 4]
    real = torch.arange(count, device=counts.device) < counts[:, None]  # [N, P]
    wanted = (scores > score_threshold) & real[..., None]
    scores = torch.where(wanted.transpose(1, 2) & have_size(boxes, min_size), scores.transpose(1, 2), NONE)
    most = min(max_per_class, max_detections, count)
    kept = suppress(boxes.flatten(0, 1), scores.flatten(0, 1), nms_threshold, most)
    chosen, index = best(torch.where(kept.unflatten(0, (-1, classes)), scores, NONE), most)  # [N, C, most]
    boxes = take(boxes, index).flatten(1, 2)
    chosen, index = best(chosen.flatten(1), max_detections)
    found = is_real(chosen)
    return (
        torch.where(found[..., None], take(boxes, index), 0.0),
        torch.where(found, chosen, 0.0),
        torch.where(found, index // most, -1),
        found.sum(1),
    )
