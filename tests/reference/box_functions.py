"""Box measures and losses, one pair of boxes at a time (Rezatofighi et al. 2019, Zheng et al. 2020, Lin et al.)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Coordinates = Sequence[float]


def corners(box: Coordinates, fmt: str) -> list[float]:
    a, b, c, d = box
    if fmt == "xywh":
        return [a, b, a + c, b + d]
    return [a - c / 2, b - d / 2, a + c / 2, b + d / 2] if fmt == "cxcywh" else [a, b, c, d]


def area(box: Coordinates) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def overlap(a: Coordinates, b: Coordinates) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(w, 0.0) * max(h, 0.0)


def iou(a: Coordinates, b: Coordinates, eps: float = 0.0) -> float:
    return overlap(a, b) / (area(a) + area(b) - overlap(a, b) + eps)


def hull(a: Coordinates, b: Coordinates) -> list[float]:
    return [min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])]


def giou(a: Coordinates, b: Coordinates, eps: float = 0.0) -> float:
    union, outer = area(a) + area(b) - overlap(a, b), area(hull(a, b))
    return iou(a, b, eps) - (outer - union) / (outer + eps)


def diou(a: Coordinates, b: Coordinates, eps: float, iou_eps: float = 0.0) -> float:
    x, y = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    outer = hull(a, b)
    return iou(a, b, iou_eps) - (x * x + y * y) / ((outer[2] - outer[0]) ** 2 + (outer[3] - outer[1]) ** 2 + eps)


def ciou(a: Coordinates, b: Coordinates, eps: float, iou_eps: float = 0.0) -> float:
    angles = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    return diou(a, b, eps, iou_eps) - v * v / (1 - iou(a, b, iou_eps) + v + eps)


def pairwise(measure: Callable[..., float]) -> Callable[..., Tensor]:
    """Return [..., K1, K2] for boxes1 [..., K1, 4] and boxes2 [..., K2, 4]."""

    def function(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy") -> Tensor:
        n, m = boxes1.shape[-2], boxes2.shape[-2]
        if n * m == 0:
            return torch.zeros(*boxes1.shape[:-1], m, dtype=torch.float64)
        images = zip(boxes1.reshape(-1, n, 4).tolist(), boxes2.reshape(-1, m, 4).tolist(), strict=True)
        values = [[[measure(corners(a, fmt), corners(b, fmt)) for b in two] for a in one] for one, two in images]
        return torch.tensor(values, dtype=torch.float64).reshape(*boxes1.shape[:-1], m)

    return function


def loss(measure: Callable[..., float]) -> Callable[..., Tensor]:
    """Return [...] for boxes1 and boxes2 [..., 4], or the mean or sum."""

    def function(boxes1: Tensor, boxes2: Tensor, reduction: str = "none") -> Tensor:
        pairs = zip(boxes1.reshape(-1, 4).tolist(), boxes2.reshape(-1, 4).tolist(), strict=True)
        values = torch.tensor([1 - measure(a, b) for a, b in pairs], dtype=torch.float64)
        if reduction == "none":
            return values.reshape(boxes1.shape[:-1])
        return values.sum() / (max(len(values), 1) if reduction == "mean" else 1)

    return function


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    def convert(box: Coordinates) -> list[float]:
        a, b, c, d = corners(box, in_fmt)
        if out_fmt == "xywh":
            return [a, b, c - a, d - b]
        return [(a + c) / 2, (b + d) / 2, c - a, d - b] if out_fmt == "cxcywh" else [a, b, c, d]

    rows = [convert(b) for b in boxes.reshape(-1, 4).tolist()]
    return torch.tensor(rows, dtype=torch.float64).reshape(boxes.shape)


def box_area(boxes: Tensor, fmt: str = "xyxy") -> Tensor:
    areas = [area(corners(b, fmt)) for b in boxes.reshape(-1, 4).tolist()]
    return torch.tensor(areas, dtype=torch.float64).reshape(boxes.shape[:-1])


def clip_boxes_to_image(boxes: Tensor, size: tuple[float, float]) -> Tensor:
    limits = (size[1], size[0], size[1], size[0])
    rows = [[min(max(v, 0), m) for v, m in zip(b, limits, strict=True)] for b in boxes.reshape(-1, 4).tolist()]
    return torch.tensor(rows, dtype=torch.float64).reshape(boxes.shape)


def sigmoid_focal_loss(inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    values = []
    for x, target in zip(inputs.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        cross_entropy = -target * math.log(p) - (1 - target) * math.log(1 - p)
        weight = 1.0 if alpha < 0 else alpha * target + (1 - alpha) * (1 - target)
        values.append(weight * cross_entropy * (1 - p * target - (1 - p) * (1 - target)) ** gamma)
    return torch.tensor(values, dtype=torch.float64).reshape(inputs.shape)
