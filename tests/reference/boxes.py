"""Box coding, anchors and matching, one number at a time (Ren et al. 2015, sections 3.1 and 3.1.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def by_rows(function: Callable[..., list[float]], rows: Tensor, anchors: Tensor) -> Tensor:
    """Return function(row, anchor) for every row [..., 4] and the anchor that broadcasts to it."""
    pairs = zip(rows.reshape(-1, 4).tolist(), anchors.expand(rows.shape).reshape(-1, 4).tolist(), strict=True)
    return torch.tensor([function(r, a) for r, a in pairs], dtype=torch.float64).reshape(rows.shape)


def decode(delta: Sequence[float], anchor: Sequence[float], weights: Sequence[float], clip: float) -> list[float]:
    dx, dy, dw, dh = (d / w for d, w in zip(delta, weights, strict=True))
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = anchor[0] + width / 2 + dx * width, anchor[1] + height / 2 + dy * height
    width, height = width * math.exp(min(dw, clip)), height * math.exp(min(dh, clip))
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def decode_boxes(
    deltas: Tensor,
    anchors: Tensor,
    weights: Sequence[float] = (1, 1, 1, 1),
    clip: float = math.log(1000 / 16),
    size: Sequence[float] | None = None,
) -> Tensor:
    height, width = (math.inf, math.inf) if size is None else size
    low = -math.inf if size is None else 0.0

    def clip_box(delta: Sequence[float], anchor: Sequence[float]) -> list[float]:
        box = decode(delta, anchor, weights, clip)
        return [min(max(x, low), high) for x, high in zip(box, (width, height, width, height), strict=True)]

    return by_rows(clip_box, deltas, anchors)


def encode_boxes(boxes: Tensor, anchors: Tensor, weights: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    def encode(box: Sequence[float], anchor: Sequence[float]) -> list[float]:
        width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
        dx = ((box[0] + box[2]) / 2 - (anchor[0] + anchor[2]) / 2) / width
        dy = ((box[1] + box[3]) / 2 - (anchor[1] + anchor[3]) / 2) / height
        dw, dh = math.log((box[2] - box[0]) / width), math.log((box[3] - box[1]) / height)
        return [w * d for w, d in zip(weights, (dx, dy, dw, dh), strict=True)]

    return by_rows(encode, boxes, anchors)


def grid_anchors(
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[tuple[float, float]],
    cell_anchors: Sequence[Tensor],
    offset: float = 0.0,
) -> list[Tensor]:
    levels = []
    for (height, width), (down, across), cell in zip(feature_sizes, strides, cell_anchors, strict=True):
        boxes = [
            [
                b[0] + (x + offset) * across,
                b[1] + (y + offset) * down,
                b[2] + (x + offset) * across,
                b[3] + (y + offset) * down,
            ]
            for y in range(height)
            for x in range(width)
            for b in cell.tolist()
        ]
        levels.append(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4))
    return levels


def decode_anchors(
    deltas: Sequence[Tensor],
    cell_anchors: Sequence[Tensor],
    strides: Sequence[tuple[float, float]],
    image_sizes: Tensor,
    weights: Sequence[float],
    clip: float,
    offset: float,
) -> Tensor:
    images = []
    for n, (image_height, image_width) in enumerate(image_sizes.tolist()):
        boxes = []
        for maps, cell, stride in zip(deltas, cell_anchors, strides, strict=True):
            _, _, height, width = maps.shape
            anchors = grid_anchors([(height, width)], [stride], [cell], offset)[0].tolist()
            for i, anchor in enumerate(anchors):
                a, place = i % len(cell), i // len(cell)
                delta = maps[n, 4 * a : 4 * a + 4, place // width, place % width].tolist()
                x1, y1, x2, y2 = decode(delta, anchor, weights, clip)
                limits = (image_width, image_height, image_width, image_height)
                boxes.append([min(max(v, 0.0), limit) for v, limit in zip((x1, y1, x2, y2), limits, strict=True)])
        images.append(boxes)
    count = sum(d.shape[2] * d.shape[3] * len(c) for d, c in zip(deltas, cell_anchors, strict=True))
    return torch.tensor(images, dtype=torch.float64).reshape(len(image_sizes), count, 4)


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return w * h if w > 0 and h > 0 else 0.0


def _area(b: Sequence[float]) -> float:
    return (b[2] - b[0]) * (b[3] - b[1])


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    overlap = _overlap(a, b)
    return overlap / (_area(a) + _area(b) - overlap) if overlap > 0 else 0.0


def match_one(
    anchors: list[list[float]],
    truths: list[list[float]],
    crowds: list[bool],
    high: float,
    low: float,
    allow_low_quality: bool,
    crowd_threshold: float,
) -> list[tuple[int, int, float]]:
    """Return (index, state, IoU) of every anchor of one image."""
    real = [g for g, crowd in enumerate(crowds) if not crowd]
    ious = [[_iou(a, truths[g]) for g in real] for a in anchors]
    results = []
    for a, row in zip(anchors, ious, strict=True):
        best = max(row, default=0.0)
        index = real[row.index(best)] if best > 0 else 0
        state = 0 if not real or best < low else 1 if best >= high else -1
        inside = any(_overlap(a, truths[g]) > crowd_threshold * _area(a) for g, crowd in enumerate(crowds) if crowd)
        results.append((index, -1 if state == 0 and inside else state, best))
    for k in range(len(real) if allow_low_quality else 0):
        best = max((row[k] for row in ious), default=0.0)
        for i, row in enumerate(ious):
            if best > 0 and row[k] == best:
                results[i] = (results[i][0], 1, results[i][2])
    return results


def match_boxes(
    anchors: Tensor,
    ground_truth: Tensor,
    high: float,
    low: float,
    allow_low_quality: bool,
    counts: Tensor | None = None,
    crowd: Tensor | None = None,
    crowd_threshold: float = 0.7,
) -> tuple[Tensor, Tensor, Tensor]:
    n, g = ground_truth.shape[:2]
    found = []
    for i in range(n):
        count = g if counts is None else int(counts[i])
        crowds = [False] * count if crowd is None else crowd[i, :count].tolist()
        boxes = (anchors if anchors.ndim == 2 else anchors[i]).tolist()
        truths = ground_truth[i, :count].tolist()
        found.append(match_one(boxes, truths, crowds, high, low, allow_low_quality, crowd_threshold))
    columns = [[[row[c] for row in image] for image in found] for c in range(3)]
    m = anchors.shape[-2]
    return (
        torch.tensor(columns[0], dtype=torch.int64).reshape(n, m),
        torch.tensor(columns[1], dtype=torch.int8).reshape(n, m),
        torch.tensor(columns[2], dtype=torch.float64).reshape(n, m),
    )
