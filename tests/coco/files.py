"""Small annotation files and their scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from pyrcnn import data, evaluate
from tests.fuzz import annotations as fuzz

BOXES = ([2, 2, 10, 10], [20, 5, 12, 20], [40, 10, 15, 25])


def content(**change: Any) -> dict[str, Any]:
    """Return a file with three boxes in one image of 64x48 pixels; ``change`` replaces fields of the first box."""
    annotations = [{"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
                   for i, box in enumerate(BOXES, start=1)]  # fmt: skip
    annotations[0] |= change
    return {"images": [{"id": 1, "file_name": "1.png", "width": 64, "height": 48}], "annotations": annotations,
            "categories": [{"id": 1, "name": "cell"}]}  # fmt: skip


def opened(folder: Path, source: Any) -> data.CocoDataset:
    Image.new("RGB", (64, 48)).save(folder / "1.png")
    (folder / "a.json").write_text(json.dumps(source))
    return data.coco(folder, folder / "a.json")


def ap(folder: Path, source: Any, found: list[dict[str, Any]] | None = None, **options: Any) -> list[float]:
    """Return AP through a data set and through the file."""
    dataset = opened(folder, source)
    if found is None:
        found = fuzz.results_of(dataset.ground_truth())
    return [round(evaluate.coco(found, truth, **options)["AP"], 9) for truth in (dataset, folder / "a.json")]


FOUND = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in BOXES]
