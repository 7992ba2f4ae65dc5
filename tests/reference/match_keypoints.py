"""CenterNet's keypoints, one at a time (Zhou et al. 2019, section 4, with the rules of TensorFlow's CenterNet)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .heatmap_peaks import peaks_of


def sigma_of(height: float, width: float, overlap: float = 0.7) -> float:
    """Return the target Gaussian's sigma; the quadratics are divided by 2 instead of 2a, as in the original code."""

    def root(a: float, b: float, c: float) -> float:
        return (-b + math.sqrt(b * b - 4 * a * c)) / 2

    area, total = height * width, height + width
    radius = min(
        root(1, -total, area * (1 - overlap) / (1 + overlap)),
        root(4, -2 * total, (1 - overlap) * area),
        root(4 * overlap, 2 * overlap * total, (overlap - 1) * area),
    )
    return (2 * math.floor(max(radius, 0)) + 1) / 6


def match_keypoints(
    ys: Tensor,
    xs: Tensor,
    heatmap: Tensor,
    regression: Tensor,
    offset: Tensor,
    boxes: Tensor | None,
    stride: float,
    image_sizes: Tensor | None = None,
    candidates: int = 100,
    kernel: int = 3,
    sigmoid: bool = True,
    tolerance: float = 0.0,
    ranking: str = "distance",
    distance_offset: float | None = None,
    spreads: Sequence[float] = (),
    score_threshold: float = 0.1,
    box_scale: float = 1.2,
    max_distance: float = 0.3,
    unmatched_score: float = 0.1,
) -> tuple[Tensor, Tensor]:
    images, count = heatmap.shape[:2]
    keypoints, scores = (
        heatmap.new_zeros(images, ys.shape[1], count, 2),
        heatmap.new_zeros(images, ys.shape[1], count),
    )
    for n in range(images):
        for j in range(count):
            found = sorted((-s, y, x) for s, y, x in peaks_of(heatmap[n, j], kernel, sigmoid, tolerance))[:candidates]
            pair = 2 * j if offset.shape[1] > 2 else 0
            points = [
                (y + float(offset[n, pair, y, x]), x + float(offset[n, pair + 1, y, x]), -s)
                for s, y, x in found
                if -s >= score_threshold
            ]
            for i in range(ys.shape[1]):
                y, x = int(ys[n, i]), int(xs[n, i])
                ry = y + float(regression[n, 2 * j, y, x])
                rx = x + float(regression[n, 2 * j + 1, y, x])
                result = (ry, rx, unmatched_score)
                x1, y1, x2, y2 = (float(v) / stride for v in boxes[n, i]) if boxes is not None else (0.0, 0.0, 0.0, 0.0)
                side = max(x2 - x1, y2 - y1)
                distances = [math.hypot(py - ry, px - rx) for py, px, _ in points]
                ranks = []
                for (_, _, score), d in zip(points, distances, strict=True):
                    if ranking == "distance":
                        ranks.append(-d)
                    elif ranking == "score_by_distance":
                        ranks.append(score / (d + (1.0 if distance_offset is None else distance_offset)))
                    elif ranking == "score_by_scaled_distance":
                        ranks.append(score / (d + (0.1 if distance_offset is None else distance_offset) * side))
                    else:
                        sigma = sigma_of(y2 - y1, x2 - x1) * spreads[j]
                        ranks.append(score * math.exp(-d * d / (2 * sigma * sigma)))
                if points:
                    first = ranks.index(max(ranks))
                    py, px, score = points[first]
                    score = ranks[first] if ranking == "gaussian" else score
                    near = True
                    if boxes is not None:
                        cy, cx = (y1 + y2) / 2, (x1 + x2) / 2
                        hh, hw = (y2 - y1) * box_scale / 2, (x2 - x1) * box_scale / 2
                        near = abs(py - cy) <= hh and abs(px - cx) <= hw
                        near = near and min(distances) <= max_distance * box_scale * side
                    if near and score >= score_threshold:
                        result = (py, px, score)
                py, px, score = result[0] * stride, result[1] * stride, result[2]
                if image_sizes is not None:
                    h, w = (float(v) for v in image_sizes[n])
                    if not (0 <= py <= h and 0 <= px <= w):
                        score = 0.0
                    py, px = min(max(py, 0.0), h), min(max(px, 0.0), w)
                keypoints[n, i, j, 0], keypoints[n, i, j, 1], scores[n, i, j] = px, py, score
    return keypoints, scores
