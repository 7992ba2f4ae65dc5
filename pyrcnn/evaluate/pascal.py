"""Pascal VOC's average precision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import inference
from ..data import CocoDataset
from ..data.annotations import Annotations
from ..data.index import Objects
from ..errors import require
from .inputs import Inputs, gather
from .prediction import Results

YEARS = (2007, 2012)
LEVELS = 0.1 * np.arange(11)  # of recall, in the floating point of the published Python versions: 0.3 is 3 * 0.1


def voc(model_or_detections: Any, dataset: CocoDataset | str | Path, *, year: int = 2012, iou: float = 0.5,
        inclusive: bool = False, batch_size: int = inference.BATCH, plain: bool = False, engine: str | None = None,
        progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:  # fmt: skip
    """Return Pascal VOC's AP: ``{"mAP": mean over classes, "classes": {name: AP}}``; -1 where there is no object.

    A detection is assigned to the object of its class that it overlaps most. It is right if this IoU exceeds ``iou``
    and no detection with a higher score was assigned to the object. Of equal scores, the detection that was given
    earlier counts as higher. Detections assigned to difficult objects count neither as right nor as wrong, and
    difficult objects need not be found. COCO's crowds are taken as difficult.

    The numbers equal those of the common Python versions of the VOC development kit (py-faster-rcnn, detectron2). The
    kit itself also accepts an IoU of exactly ``iou``, which its documentation excludes.

    Args:
        model_or_detections, dataset, batch_size, plain, engine, progress: as in :func:`coco`.
        year: 2007 for the mean of the precisions at 11 recalls (VOC 2007 to 2009), 2012 for the area under the
            interpolated curve (VOC 2010 to 2012).
        iou: the overlap that a detection must exceed.
        inclusive: whether x2 and y2 belong to the box, so that its sides are x2 - x1 + 1 and y2 - y1 + 1. VOC's files
            count so: pass True for boxes that hold their xmin, ymin, xmax and ymax unchanged. The default is for
            continuous coordinates, where xmin - 1, ymin - 1, xmax, ymax is the same box, with the same IoU.

    Raises:
        pyrcnn.InputError: as :func:`coco` does, and for another year or an ``iou`` outside [0, 1).

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010, section 4.2

    Example::

        evaluate.voc(model, data.coco("images", "test.json"), year=2007)["mAP"]
    """
    _check(year, iou)
    inputs = gather(model_or_detections, dataset, batch_size=batch_size, plain=plain, engine=engine, progress=progress)
    return voc_of_inputs(inputs, year, iou, inclusive)


def voc_of_inputs(inputs: Inputs, year: int = 2012, iou: float = 0.5, inclusive: bool = False) -> dict[str, Any]:
    """Return the AP of gathered inputs, see :func:`voc`."""
    _check(year, iou)
    curves = voc_curves(inputs.annotations, inputs.checked(), iou, inclusive)
    found = [average_precision(c, year) if c.objects else -1.0 for c in curves]
    counted = [value for value, curve in zip(found, curves, strict=True) if curve.objects]
    names = unique_names(inputs.annotations)
    return {"mAP": float(np.mean(counted)) if counted else -1.0, "classes": dict(zip(names, found, strict=True))}


def _check(year: int, iou: float) -> None:
    require(year in YEARS, f"year must be 2007 or 2012, got {year!r}")
    good = isinstance(iou, int | float) and 0 <= iou < 1
    require(good, f"iou must be a number from 0 to below 1, got {iou!r}")


class VocCurve(NamedTuple):
    """Precision and recall of one class after each detection, in descending order of score; both [D] float64."""

    precision: np.ndarray
    recall: np.ndarray
    objects: int  # that are not difficult


def voc_curves(annotations: Annotations, results: Results, iou: float, inclusive: bool = False) -> list[VocCurve]:
    """Return the curve of each class."""
    objects = {image_id: _arrays(found) for image_id, found in annotations.objects.items()}
    count = len(annotations.categories)
    positives = np.zeros(count, dtype=np.int64)
    for _, labels, difficult in objects.values():
        positives += np.bincount(labels[~difficult], minlength=count)
    first = dict(zip(objects, np.cumsum([0, *(len(o[1]) for o in objects.values())]).tolist(), strict=False))
    boxes = np.array([r["bbox"] for r in results], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array([r["score"] for r in results], dtype=np.float64)
    labels = np.array([r["label"] for r in results], dtype=np.int64)
    # The object that each detection overlaps most: its number among all objects, -1 for none, and whether to ignore it.
    assigned, ignored = np.full(len(results), -1), np.zeros(len(results), dtype=bool)
    for (image_id, label), rows in _groups(results).items():
        all_boxes, all_labels, difficult = objects[image_id]
        mine = np.flatnonzero(all_labels == label)
        if not len(mine):
            continue
        overlaps = _overlaps(boxes[rows], all_boxes[mine], inclusive)
        best = overlaps.argmax(1)
        near = overlaps[np.arange(len(rows)), best] > iou
        chosen = mine[best[near]]
        assigned[np.array(rows)[near]] = first[image_id] + chosen
        ignored[np.array(rows)[near]] = difficult[chosen]
    return [_curve(scores, assigned, ignored, np.flatnonzero(labels == label), int(positives[label]))
            for label in range(count)]  # fmt: skip


def average_precision(curve: VocCurve, year: int) -> float:
    """Return the AP of a curve by the rule of ``year``."""
    # The highest precision at each recall or a higher one.
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    if year == 2007:
        position = np.searchsorted(curve.recall, LEVELS, side="left")
        return float(np.append(envelope, 0.0)[position].sum() / len(LEVELS))
    return float((np.diff(curve.recall, prepend=0.0) * envelope).sum())


def unique_names(annotations: Annotations) -> list[str]:
    """Return the names of the classes; those that several classes have are followed by the id."""
    names = [str(c.get("name", c["id"])) for c in annotations.categories]
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{name} (id {c['id']})"
            for name, c in zip(names, annotations.categories, strict=True)]  # fmt: skip


def _arrays(objects: Objects) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes [G, 4] x1 y1 x2 y2, labels [G] and which of the objects are difficult [G]."""
    return objects.boxes + np.pad(objects.boxes[:, :2], ((0, 0), (2, 0))), objects.labels, objects.crowd


def _curve(scores: np.ndarray, assigned: np.ndarray, ignored: np.ndarray, rows: np.ndarray, objects: int) -> VocCurve:
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    rows = rows[~ignored[rows]]
    mine = assigned[rows]
    right = np.zeros(len(rows), dtype=bool)
    numbers, firsts = np.unique(mine, return_index=True)
    right[firsts[numbers >= 0]] = True
    hits = np.cumsum(right)
    return VocCurve(hits / np.arange(1, len(rows) + 1), hits / max(objects, 1), objects)


def _groups(results: Results) -> dict[tuple[Any, int], list[int]]:
    """Return the numbers of the detections of each image and class."""
    groups: dict[tuple[Any, int], list[int]] = {}
    for row, result in enumerate(results):
        groups.setdefault((result["image_id"], result["label"]), []).append(row)
    return groups


def _overlaps(boxes: np.ndarray, others: np.ndarray, inclusive: bool) -> np.ndarray:
    """Return the IoU [D, G] of boxes x1 y1 x2 y2 in float64; 0 where both are empty."""
    more = float(inclusive)
    corner = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    shared = np.maximum(corner + more, 0).prod(2)
    areas, other_areas = ((b[:, 2:] - b[:, :2] + more).prod(1) for b in (boxes, others))
    union = areas[:, None] + other_areas - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
