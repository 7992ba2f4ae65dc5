"""The scores of a training run: COCO's, those of keypoints, and each class's AP."""

from __future__ import annotations

from typing import Any

from .. import evaluate
from ..data import CocoDataset

CLASS = "AP/"  # before the name of a class


def score(results: list[dict[str, Any]], val_data: CocoDataset) -> dict[str, float]:
    """Return the scores of COCO result dictionaries.

    They are COCO's numbers of the boxes; the same of the keypoints as ``keypoints_AP`` …, if there are any; and
    ``AP/NAME`` of each class that has objects.
    """
    found = evaluate.analyze(results, val_data, per_image=False)
    scores = dict(found.scores)
    if evaluate.scores_keypoints(val_data) and results and "keypoints" in results[0]:
        of_keypoints = evaluate.coco(results, val_data, keypoints=True)
        scores |= {f"keypoints_{name}": value for name, value in of_keypoints.items()}
    return scores | {CLASS + c.name: c.scores["AP"] for c in found.classes}


def of_classes(scores: dict[str, float]) -> dict[str, float]:
    """Return the AP of each class by its name."""
    return {name.removeprefix(CLASS): value for name, value in scores.items() if name.startswith(CLASS)}
