"""The one place that calls pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.annotations import Annotations, dictionary
from ..data.values import in_order, numbers, shown
from ..errors import require
from .prediction import Results

COCO_KEYPOINTS = 17  # pycocotools has tolerances for the keypoints of COCO's person only


def run(annotations: Annotations, results: Results, keypoints: bool = False,
        sigmas: Sequence[float] | None = None) -> COCOeval:  # fmt: skip
    """Return pycocotools' scorer after its work; ``stats`` holds COCO's numbers, -1 where there is no ground truth.

    Images have the numbers 1, 2, … in the order of their ids, and categories their labels, because pycocotools cannot
    sort ids of several types. Classes without objects have no AP: ``params.catIds`` holds the labels of the others.

    Args:
        annotations: the ground truth.
        results: checked detections, as ``ResultReader.read`` returns them.
        keypoints: score keypoints instead of boxes.
        sigmas: the tolerance of each keypoint; None for COCO's 17.
    """
    # pycocotools would spend time on classes without objects in each image.
    scored = {found.label for objects in annotations.objects.values() for found in objects}
    if keypoints:
        scored &= _labels_with_keypoints(annotations, sigmas)
    numbered = {image_id: number for number, image_id in enumerate(in_order(annotations.images), start=1)}
    categories = [{**c, "id": label} for label, c in enumerate(annotations.categories)]
    kind = "keypoints" if keypoints else "bbox"
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        ground = COCO()
        ground.dataset = dictionary(categories, (({"id": n}, annotations.objects[i]) for i, n in numbered.items()))
        ground.createIndex()
        # loadRes decides by the first entry's fields whether it scores boxes or keypoints: entries have one of both.
        entries = [{"image_id": numbered[r["image_id"]], "category_id": r["label"], "score": r["score"], kind: r[kind]}
                   for r in results]  # fmt: skip
        scorer = COCOeval(ground, ground.loadRes(entries) if entries else _empty_results(ground), kind)
        scorer.params.catIds = sorted(scored)
        if sigmas is not None:
            scorer.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer


def _labels_with_keypoints(annotations: Annotations, sigmas: Sequence[float] | None) -> set[int]:
    """Return the labels whose keypoints can be scored with these tolerances."""
    some = any(found.keypoints is not None for objects in annotations.objects.values() for found in objects)
    require(some, "annotations must hold keypoints to score keypoints, got none")
    if sigmas is not None:
        good = numbers(list(sigmas) if isinstance(sigmas, Iterable) else None)
        require(good is not None and min(good, default=0) > 0, f"sigmas must be positive numbers, got {shown(sigmas)}")
    expected = COCO_KEYPOINTS if sigmas is None else len(sigmas)
    counts = annotations.keypoint_counts
    scored = {label for label, count in enumerate(counts) if count == expected}
    require(bool(scored), f"sigmas must be {max(counts)}, one per keypoint, got {expected}")
    return scored


def _empty_results(ground: COCO) -> COCO:
    """Return an empty result set, which ``loadRes`` cannot make."""
    found = COCO()
    found.dataset = {"images": ground.dataset["images"], "categories": ground.dataset["categories"], "annotations": []}
    found.createIndex()
    return found
