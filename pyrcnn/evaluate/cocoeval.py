"""The one place that calls pycocotools, or faster-coco-eval if that is installed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.annotations import Annotations, dictionary
from ..data.values import in_order, numbers, shown
from ..errors import needing, require
from .prediction import Results

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

COCO_KEYPOINTS = 17  # pycocotools has tolerances for the keypoints of COCO's person only
MATCH_IOU = 0.5  # at which detections count as right or wrong outside of the averages; COCO's first


def run(annotations: Annotations, results: Results, keypoints: bool = False,
        sigmas: Sequence[float] | None = None, all_labels: bool = False) -> COCOeval:  # fmt: skip
    """Return pycocotools' scorer after its work; ``stats`` holds COCO's numbers, -1 where there is no ground truth.

    Images have the numbers 1, 2, … in the order of :func:`image_order`, and categories their labels, because
    pycocotools cannot sort ids of several types. ``params.catIds`` holds the labels that are scored.

    Args:
        annotations: the ground truth.
        results: checked detections, as ``ResultReader.read`` returns them.
        keypoints: score keypoints instead of boxes.
        sigmas: the tolerance of each keypoint; None for COCO's 17.
        all_labels: match the detections of classes without objects too, and keep the matches. The AP of such classes is
            -1, and the numbers are the same, but it takes time for each class in each image.

    Without ``all_labels``, faster-coco-eval does the work where it is installed. Its numbers differ from pycocotools'
    by rounding in the last of 16 digits; it does not keep the matches.
    """
    scored = {found.label for objects in annotations.objects.values() for found in objects}
    if all_labels:
        scored |= {r["label"] for r in results}
    if keypoints:
        scored &= _labels_with_keypoints(annotations, sigmas)
    scorer = _scorer(annotations, results, "keypoints" if keypoints else "bbox", fast=not all_labels)
    scorer.params.catIds = sorted(scored)
    if sigmas is not None:
        scorer.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
    with _silence():
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer


def run_without_classes(annotations: Annotations, results: Results) -> COCOeval:
    """Return the scorer after matching boxes at ``MATCH_IOU`` as if all objects were of one class."""
    scorer = _scorer(annotations, results, "bbox")
    scorer.params.useCats = 0
    scorer.params.iouThrs = np.array([MATCH_IOU])
    scorer.params.areaRng, scorer.params.areaRngLbl = scorer.params.areaRng[:1], ["all"]
    scorer.params.maxDets = [max(1, len(results))]
    with _silence():
        scorer.evaluate()
    return scorer


def image_order(annotations: Annotations) -> list[Any]:
    """Return the ids of the images in the order in which they are scored."""
    return in_order(annotations.images)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU [D, G] of boxes x, y, width, height, as pycocotools computes it."""
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    with _needing_pycocotools():
        from pycocotools import mask
    return mask.iou(boxes.astype(np.float64), others.astype(np.float64), np.zeros(len(others), dtype=np.uint8))


def _scorer(annotations: Annotations, results: Results, kind: str, fast: bool = False) -> COCOeval:
    coco, scorer = _classes(fast)
    numbered = {image_id: number for number, image_id in enumerate(image_order(annotations), start=1)}
    categories = [{**c, "id": label} for label, c in enumerate(annotations.categories)]
    with _silence():
        ground = coco()
        ground.dataset = dictionary(categories, (({"id": n}, annotations.objects[i]) for i, n in numbered.items()))
        ground.createIndex()
        # loadRes decides by the first entry's fields whether it scores boxes or keypoints: entries have one of both.
        entries = [{"image_id": numbered[r["image_id"]], "category_id": r["label"], "score": r["score"], kind: r[kind]}
                   for r in results]  # fmt: skip
        return scorer(ground, ground.loadRes(entries) if entries else _empty_results(ground), kind)


def _classes(fast: bool) -> tuple[Any, Any]:
    if fast:
        with contextlib.suppress(ImportError):
            import faster_coco_eval

            return faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster
    with _needing_pycocotools():
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    return COCO, COCOeval


def _needing_pycocotools() -> contextlib.AbstractContextManager[None]:
    return needing("pycocotools", "scoring by COCO's rules")


def _silence() -> contextlib.redirect_stdout[io.StringIO]:
    return contextlib.redirect_stdout(io.StringIO())  # pycocotools prints its progress


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
    found = type(ground)()
    found.dataset = {"images": ground.dataset["images"], "categories": ground.dataset["categories"], "annotations": []}
    found.createIndex()
    return found
