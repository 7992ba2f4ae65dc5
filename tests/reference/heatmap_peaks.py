"""Peaks of heatmaps, one cell at a time (Zhou et al. 2019, section 4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def peaks_of(plane: Tensor, kernel: int, use_sigmoid: bool, tolerance: float) -> list[tuple[float, int, int]]:
    """Return (score, y, x) of every local maximum of one heatmap [H, W], in any order."""
    height, width = plane.shape
    values = plane.tolist()
    radius = kernel // 2
    found = []
    for y in range(height):
        for x in range(width):
            window = [
                values[v][u]
                for v in range(max(y - radius, 0), min(y + radius + 1, height))
                for u in range(max(x - radius, 0), min(x + radius + 1, width))
                if not math.isnan(values[v][u])
            ]
            value = values[y][x]
            if math.isnan(value):
                continue
            score, highest = (sigmoid(v) if use_sigmoid else v for v in (value, max(window)))
            peak = highest == score or highest - score < tolerance if tolerance > 0 else value == max(window)
            if peak and score > 0:
                found.append((score, y, x))
    return found


def heatmap_peaks(
    heatmap: Tensor,
    k: int,
    kernel: int = 3,
    sigmoid: bool = True,
    tolerance: float = 0.0,
    per_class: bool = False,
) -> tuple[Tensor, ...]:
    images, channels = heatmap.shape[:2]
    rows = []
    for n in range(images):
        found = [
            (-score, y, x, c)
            for c in range(channels)
            for score, y, x in peaks_of(heatmap[n, c], kernel, sigmoid, tolerance)
        ]
        groups = [[p for p in found if p[3] == c] for c in range(channels)] if per_class else [found]
        for c, group in enumerate(groups):
            missing = [(0.0, 0, 0, c if per_class else 0)] * k
            rows.append((sorted(group) + missing)[:k])
    shape = (images, channels, k) if per_class else (images, k)
    table = torch.tensor(rows, dtype=torch.float64).reshape(*shape, 4)
    scores, ys, xs, classes = (-table[..., 0], *(table[..., i].long() for i in (1, 2, 3)))
    return scores, classes, ys, xs
