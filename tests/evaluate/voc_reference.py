"""Pascal VOC's AP in float64 and plain loops, from section 4.2 of the challenge's paper and the development kit.

An object is (x1, y1, x2, y2, difficult), a detection (image, score, x1, y1, x2, y2); both are of one class.
"""

from __future__ import annotations

from collections.abc import Sequence

Box = Sequence[float]


def overlap(a: Box, b: Box, more: float) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + more
    height = min(a[3], b[3]) - max(a[1], b[1]) + more
    if width <= 0 or height <= 0:
        return 0.0
    area = [(box[2] - box[0] + more) * (box[3] - box[1] + more) for box in (a, b)]
    return width * height / (area[0] + area[1] - width * height)


def judged(objects: dict[int, list[Box]], detections: list[Box], iou: float, more: float) -> list[str]:
    """Return "right", "wrong" or "ignored" for each detection, in descending order of score."""
    found: set[tuple[int, int]] = set()
    verdicts = []
    for image, _, *box in sorted(detections, key=lambda d: -d[1]):  # Python's sort is stable
        best, which = -1.0, -1
        for number, other in enumerate(objects.get(int(image), [])):
            value = overlap(box, other, more)
            if value > best:
                best, which = value, number
        if best <= iou:
            verdicts.append("wrong")
        elif objects[int(image)][which][4]:
            verdicts.append("ignored")
        elif (int(image), which) in found:
            verdicts.append("wrong")
        else:
            found.add((int(image), which))
            verdicts.append("right")
    return verdicts


def average_precision(verdicts: list[str], positives: int, year: int) -> float:
    curve, right, wrong = [], 0, 0  # of (recall, precision)
    for verdict in verdicts:
        right += verdict == "right"
        wrong += verdict == "wrong"
        if right + wrong:
            curve.append((right / positives, right / (right + wrong)))
    if year == 2007:
        levels = [0.1 * i for i in range(11)]
        return sum(max((p for r, p in curve if r >= level), default=0.0) for level in levels) / 11
    area, before = 0.0, 0.0
    for recall, _ in curve:
        if recall > before:
            area += (recall - before) * max(p for r, p in curve if r >= recall)
            before = recall
    return area
