"""The area and the box of a segmentation in COCO's format: polygons, or run lengths, compressed or not.

Nothing is drawn: time and memory are in proportion to the segmentation's text, whatever size it claims.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .values import FARTHEST, number, numbers

Extent = tuple[float, list[float]]  # the area in pixels, and the box x, y, width, height


def extent(segmentation: Any) -> Extent | None:
    """Return (area, box) of a segmentation; None if it is missing, empty or cannot be read.

    >>> extent([[0, 0, 4, 0, 4, 3]])
    (6.0, [0.0, 0.0, 4.0, 3.0])
    >>> extent({"size": [2, 3], "counts": [2, 3, 1]})  # down the columns: 2 pixels off, 3 on, 1 off
    (3.0, [1.0, 0.0, 2.0, 2.0])
    """
    if isinstance(segmentation, dict):
        return _of_runs(segmentation)
    return _of_polygons(segmentation) if isinstance(segmentation, list) and segmentation else None


def _of_polygons(polygons: list[Any]) -> Extent | None:
    area, corners = 0.0, []
    for polygon in polygons:
        values = numbers(polygon)
        if values is None or len(values) < 6 or len(values) % 2:
            return None
        points = np.array(values).reshape(-1, 2)
        if np.abs(points).max() > FARTHEST:
            return None
        x, y = (points - points[0]).T
        area += abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
        corners += [points.min(0), points.max(0)]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    return area, [*low.tolist(), *(high - low).tolist()]


def _of_runs(segmentation: dict[str, Any]) -> Extent | None:
    size, counts = numbers(segmentation.get("size"), 2), segmentation.get("counts")
    runs = _decompressed(counts) if isinstance(counts, str) else _whole_numbers(counts)
    if size is None or runs is None or not all(0 < side <= FARTHEST and side == int(side) for side in size):
        return None
    height, width = (int(side) for side in size)
    if any(run < 0 for run in runs) or sum(runs) != height * width:  # Python's integers do not overflow
        return None
    ends = np.cumsum(np.array(runs, dtype=np.int64))
    first, last = ends[:-1:2], ends[1::2] - 1  # of every run of pixels that are on, down the columns
    first, last = first[: len(last)][last >= first[: len(last)]], last[last >= first[: len(last)]]
    if not len(last):
        return None
    left, right = first // height, last // height
    over = left < right  # the run reaches the foot of one column and the head of the next
    top, bottom = np.where(over, 0, first % height), np.where(over, height - 1, last % height)
    box = [left.min(), top.min(), right.max() - left.min() + 1, bottom.max() - top.min() + 1]
    return float((last - first + 1).sum()), [float(v) for v in box]


def _whole_numbers(counts: Any) -> list[int] | None:
    values = [number(v) for v in counts] if isinstance(counts, list) else None
    good = values is not None and all(v is not None and abs(v) <= FARTHEST**2 and v == int(v) for v in values)
    return [int(v) for v in values] if good else None  # type: ignore[union-attr, arg-type]


def _decompressed(text: str) -> list[int] | None:
    """Return the run lengths of COCO's text: six bits per character, differences to the run before the last."""
    runs: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in text):
        if not 0 <= code < 64 or shift > 60:
            return None
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (1 << shift) if code & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return None if shift else runs
