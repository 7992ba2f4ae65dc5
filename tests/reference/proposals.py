"""The postprocessing of an RPN and of a RoI head, box by box, from the papers' description."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Box = tuple[float, float, float, float]


def decode(anchor: Sequence[float], delta: Sequence[float], weights: Sequence[float], clip: float) -> Box:
    dx, dy, dw, dh = (d / w for d, w in zip(delta, weights, strict=True))
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = anchor[0] + w / 2 + dx * w, anchor[1] + h / 2 + dy * h
    w, h = w * math.exp(min(dw, clip)), h * math.exp(min(dh, clip))
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def inside(box: Box, height: float, width: float) -> Box:
    x1, y1, x2, y2 = box
    return min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height)


def iou(a: Box, b: Box) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0.0) * max(h, 0.0)
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / either if either else math.nan


def usable(box: Box, min_size: float) -> bool:
    return box[2] - box[0] >= min_size and box[3] - box[1] >= min_size


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def generate_proposals(
    objectness: list[Tensor],
    deltas: list[Tensor],
    cell_anchors: list[Tensor],
    strides: Sequence[float | tuple[float, float]],
    image_sizes: Tensor,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    min_size: float = 0.0,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float = math.log(1000 / 16),
    offset: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    n = image_sizes.shape[0]
    boxes, scores = torch.zeros(n, post_nms_top_n, 4).double(), torch.zeros(n, post_nms_top_n).double()
    counts = torch.zeros(n, dtype=torch.int64)
    for image in range(n):
        height, width = image_sizes[image].tolist()
        survivors: list[tuple[float, int, int, Box]] = []  # -score, level, rank
        for level, stride in enumerate(strides):
            down, across = stride if isinstance(stride, tuple) else (stride, stride)
            _, per_cell, rows, columns = objectness[level].shape
            logits = objectness[level][image].permute(1, 2, 0).reshape(-1).tolist()
            codes = deltas[level][image].reshape(per_cell, 4, rows, columns).permute(2, 3, 0, 1).reshape(-1, 4).tolist()
            cells = cell_anchors[level].tolist()
            best = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:pre_nms_top_n]
            kept: list[Box] = []
            for i in best:
                y, x, a = i // per_cell // columns, i // per_cell % columns, i % per_cell
                dx, dy = (x + offset) * across, (y + offset) * down
                anchor = [c + s for c, s in zip(cells[a], (dx, dy, dx, dy), strict=True)]
                box = inside(decode(anchor, codes[i], weights, clip), height, width)
                if usable(box, min_size) and not any(iou(box, other) > nms_threshold for other in kept):
                    survivors.append((-sigmoid(logits[i]), level, len(kept), box))
                    kept.append(box)
        survivors.sort(key=lambda s: s[:3])
        chosen = survivors[:post_nms_top_n]
        for i, (score, _, _, box) in enumerate(chosen):
            boxes[image, i] = torch.tensor(box, dtype=torch.float64)
            scores[image, i] = -score
        counts[image] = len(chosen)
    return boxes, scores, counts


def roi_detections(
    class_logits: Tensor,
    box_deltas: Tensor,
    proposals: Tensor,
    counts: Tensor,
    image_sizes: Tensor,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    max_detections: int = 100,
    weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
    clip: float = math.log(1000 / 16),
    min_size: float = 0.01,
    background_first: bool = True,
    max_per_class: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, _, columns = class_logits.shape
    classes, cap = columns - 1, max_detections if max_per_class is None else max_per_class
    first = 1 if background_first else 0
    width_of_deltas = box_deltas.shape[2]
    boxes, scores = torch.zeros(n, max_detections, 4).double(), torch.zeros(n, max_detections).double()
    labels, found = torch.full((n, max_detections), -1), torch.zeros(n, dtype=torch.int64)
    for image in range(n):
        height, width = image_sizes[image].tolist()
        candidates = []
        for row in range(int(counts[image])):
            logits = class_logits[image, row].tolist()
            shares = [math.exp(v - max(logits)) for v in logits]
            for label in range(classes):
                score = shares[label + first] / sum(shares)
                if score <= score_threshold:
                    continue
                at = 4 * (label + first) if width_of_deltas == 4 * columns else 4 * label
                at = 0 if width_of_deltas == 4 else at
                code = box_deltas[image, row, at : at + 4].tolist()
                box = inside(decode(proposals[image, row].tolist(), code, weights, clip), height, width)
                if usable(box, min_size):
                    candidates.append((-score, row * classes + label, label, box))
        kept: dict[int, list[Box]] = {label: [] for label in range(classes)}
        results = []
        for score, _, label, box in sorted(candidates, key=lambda c: c[:2]):
            if len(kept[label]) < cap and not any(iou(box, other) > nms_threshold for other in kept[label]):
                kept[label].append(box)
                results.append((-score, label, box))
        chosen = results[:max_detections]
        for i, (score, label, box) in enumerate(chosen):
            boxes[image, i] = torch.tensor(box, dtype=torch.float64)
            scores[image, i], labels[image, i] = score, label
        found[image] = len(chosen)
    return boxes, scores, labels, found
