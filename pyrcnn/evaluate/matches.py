"""Which detection was matched with which object, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.annotations import Annotations
from . import cocoeval
from .prediction import Results

if TYPE_CHECKING:
    from pycocotools.cocoeval import COCOeval

NEAR = 0.1  # IoU from which a detection is taken for a badly placed one of an object of its class
KINDS = ("false positive", "missed", "wrong class", "badly placed", "found twice")


@dataclass(frozen=True)
class ImageMatches:
    """The detections and objects of one image, as COCO matches them at IoU 0.5 (keypoints: OKS 0.5).

    Attributes:
        image_id: the image.
        boxes: [D, 4] x, y, width, height of the detections, classes one after another; the 100 with the highest scores
            per class (keypoints: 20, with the smallest box around the keypoints).
        labels: [D]; scores: [D]; keypoints: [D, J, 3] or None.
        objects: [D] the index of the object that a detection was matched with, -1 for none.
        ignored: [D] whether COCO counts the detection neither as right nor as wrong, because a crowd holds it.
        true_boxes: [G, 4] x, y, width, height; true_labels: [G].
        crowd: [G] whether COCO leaves the object out: crowds, and without labelled keypoints where these are scored.
        found_by: [G] the index of the detection that an object was matched with, -1 for none.
    """

    image_id: Any
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    objects: np.ndarray
    ignored: np.ndarray
    true_boxes: np.ndarray
    true_labels: np.ndarray
    crowd: np.ndarray
    found_by: np.ndarray
    keypoints: np.ndarray | None = None


@dataclass(frozen=True)
class Mistake:
    """A wrong detection or a missed object.

    Attributes:
        kind: one of ``KINDS``.
        image: the position of the image among ``Evaluation.images``.
        label: the class of the detection, or of the object that was missed.
        box: x, y, width, height of the detection or the missed object.
        score: of the detection; None if an object was missed.
        true_label, true_box: the object that the detection overlaps most, if it is near one.
        iou: the overlap of both.
    """

    kind: str
    image: int
    label: int
    box: np.ndarray
    score: float | None = None
    true_label: int | None = None
    true_box: np.ndarray | None = None
    iou: float = 0.0


def image_matches(scorer: COCOeval, annotations: Annotations) -> list[ImageMatches]:
    """Return the matches of every image, from a scorer that has evaluated the images class by class."""
    order = cocoeval.image_order(annotations)
    areas, images = len(scorer.params.areaRng), len(order)
    at = int(np.flatnonzero(np.isclose(scorer.params.iouThrs, cocoeval.MATCH_IOU))[0])
    parts: list[list[dict[str, Any]]] = [[] for _ in order]
    for k in range(len(scorer.params.catIds)):
        for i in range(images):
            found = scorer.evalImgs[k * areas * images + i]  # of the first area range, all sizes
            if found is not None:
                parts[i].append(found)
    return [_joined(scorer, image_id, some, at) for image_id, some in zip(order, parts, strict=True)]


def _joined(scorer: COCOeval, image_id: Any, parts: Sequence[dict[str, Any]], at: int) -> ImageMatches:
    found = [scorer.cocoDt.anns[i] for part in parts for i in part["dtIds"]]
    truth = [scorer.cocoGt.anns[i] for part in parts for i in part["gtIds"]]
    position = {int(a["id"]): n for n, a in enumerate(truth)}
    place = {int(a["id"]): n for n, a in enumerate(found)}
    keypoints = None
    if found and "keypoints" in found[0]:
        keypoints = np.array([a["keypoints"] for a in found], dtype=np.float64).reshape(len(found), -1, 3)
    return ImageMatches(
        image_id,
        np.array([a["bbox"] for a in found], dtype=np.float64).reshape(-1, 4),
        np.array([a["category_id"] for a in found], dtype=np.int64),
        np.array([a["score"] for a in found], dtype=np.float64),
        _positions(position, [part["dtMatches"][at] for part in parts]),
        _row([part["dtIgnore"][at] for part in parts]).astype(bool),
        np.array([a["bbox"] for a in truth], dtype=np.float64).reshape(-1, 4),
        np.array([a["category_id"] for a in truth], dtype=np.int64),
        _row([part["gtIgnore"] for part in parts]).astype(bool),
        _positions(place, [part["gtMatches"][at] for part in parts]),
        keypoints,
    )


def _row(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])


def _positions(of: dict[int, int], ids: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([of.get(int(i), -1) for i in _row(ids)], dtype=np.int64)


def confusion(annotations: Annotations, results: Results, score: float) -> np.ndarray:
    """Return how often detections of each class were matched with objects of each class.

    Boxes are matched by COCO's rule at IoU 0.5, but without regard to classes: each detection, in descending order of
    score, gets the free object that it overlaps most. Detections in crowds do not count.

    Args:
        annotations: the ground truth.
        results: checked detections.
        score: detections must have a higher score to count.

    Returns:
        [C + 1, C + 1] int64: row = class of the object, column = class of the detection. The last row counts
        detections without an object, the last column objects without a detection.
    """
    count = len(annotations.categories)
    table = np.zeros((count + 1, count + 1), dtype=np.int64)
    scorer = cocoeval.run_without_classes(annotations, [r for r in results if r["score"] > score])
    found, truth = scorer.cocoDt.anns, scorer.cocoGt.anns
    for part in filter(None, scorer.evalImgs):
        for i, match, ignored in zip(part["dtIds"], part["dtMatches"][0], part["dtIgnore"][0], strict=True):
            if not ignored:
                table[truth[int(match)]["category_id"] if match else count, found[i]["category_id"]] += 1
        for i, match, ignored in zip(part["gtIds"], part["gtMatches"][0], part["gtIgnore"], strict=True):
            if not match and not ignored:
                table[truth[i]["category_id"], count] += 1
    return table


def mistakes(images: Sequence[ImageMatches], score: float) -> list[Mistake]:
    """Return what is wrong among the detections above ``score``: by kind, then the highest scores and largest objects.

    A detection without a match is "found twice" if it overlaps an object of its class by at least 0.5, which another
    detection got; else "wrong class" if it overlaps one of another class so; else "badly placed" if it overlaps one of
    its class by at least 0.1; else a "false positive". An object without a match is "missed".
    """
    found = [m for number, image in enumerate(images) for m in _of_image(number, image, score)]
    return sorted(found, key=lambda m: (KINDS.index(m.kind), -(m.score or 0.0), -float(m.box[2:].prod())))


def _of_image(number: int, image: ImageMatches, score: float) -> list[Mistake]:
    wrong = np.flatnonzero((image.scores > score) & (image.objects < 0) & ~image.ignored)
    real = np.flatnonzero(~image.crowd)
    overlaps = cocoeval.overlaps(image.boxes[wrong], image.true_boxes[real])
    found = []
    for row, values in zip(wrong.tolist(), overlaps, strict=True):
        same = image.true_labels[real] == image.labels[row]
        own, other = (int(np.where(of, values, -1).argmax()) if of.any() else -1 for of in (same, ~same))
        if own >= 0 and values[own] >= cocoeval.MATCH_IOU:
            kind, best = "found twice" if image.found_by[real[own]] >= 0 else "badly placed", own
        elif other >= 0 and values[other] >= cocoeval.MATCH_IOU:
            kind, best = "wrong class", other
        elif own >= 0 and values[own] >= NEAR:
            kind, best = "badly placed", own
        else:
            kind, best = "false positive", -1
        mistake = Mistake(kind, number, int(image.labels[row]), image.boxes[row], float(image.scores[row]))
        if best >= 0:
            true = int(real[best])
            mistake = Mistake(kind, number, mistake.label, mistake.box, mistake.score, int(image.true_labels[true]),
                              image.true_boxes[true], float(values[best]))  # fmt: skip
        found.append(mistake)
    by = image.found_by[real]
    high = np.zeros(len(real), dtype=bool)
    high[by >= 0] = image.scores[by[by >= 0]] > score
    found += [Mistake("missed", number, int(image.true_labels[g]), image.true_boxes[g]) for g in real[~high]]
    return found
