"""Writes detections with known mistakes, so that you see where a report shows each of them.

    python examples/shapes.py shapes
    python examples/planted_mistakes.py shapes/shapes.json results.json
    pyrcnn evaluate --annotations shapes/shapes.json --images shapes/images --detections results.json --report report

Of each ten objects: one is missed, one gets another class, one a box that is moved by two fifths of its width, one
is found twice, and the rest are right. Each fifth image has a detection where nothing is. Scores fall from 0.95.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any


def detections(annotations: dict[str, Any], planted: Counter[str]) -> list[dict[str, Any]]:
    """Return COCO results for the objects of ``annotations``; counts in ``planted`` what was done to them."""
    results: list[dict[str, Any]] = []
    count = len(annotations["annotations"])

    def add(found: dict[str, Any], what: str, box: list[float], category: int, score: float) -> None:
        planted[what] += 1
        results.append({"image_id": found["image_id"], "category_id": category, "bbox": box, "score": score})

    for i, found in enumerate(annotations["annotations"]):
        (x, y, w, h), category, score = found["bbox"], found["category_id"], round(0.95 - 0.55 * i / count, 4)
        case = i % 10
        if case == 3:
            planted["missed"] += 1
        elif case == 5:
            add(found, "another class", [x, y, w, h], category % 3 + 1, score)
        elif case == 7:
            add(found, "moved", [x + 0.4 * w, y, w, h], category, score)
        else:
            add(found, "right", [x, y, w, h], category, score)
            if case == 9:
                add(found, "found twice", [x + 1, y + 1, w, h], category, score - 0.1)
    for image in annotations["images"][::5]:
        add({"image_id": image["id"]}, "where nothing is", [1, 1, 12, 12], 1, 0.35)
    return results


def main(source: str, target: str) -> None:
    """Write the results, and print how many of each kind there are."""
    planted: Counter[str] = Counter()
    results = detections(json.loads(Path(source).read_text()), planted)
    Path(target).write_text(json.dumps(results))
    for what, count in planted.items():
        print(f"{what:17}{count:4}")


if __name__ == "__main__":
    main(*sys.argv[1:])
