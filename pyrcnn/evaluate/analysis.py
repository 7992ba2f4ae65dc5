"""An evaluation with its parts: per class, precision and recall, confusion of classes, matches per image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import inference
from ..data import CocoDataset
from ..data.annotations import Annotations
from ..errors import require
from . import cocoeval, matches
from .inputs import Inputs, gather
from .matches import ImageMatches, Mistake
from .pascal import unique_names
from .scores import named

if TYPE_CHECKING:
    from pycocotools.cocoeval import COCOeval

SCORE = 0.3  # detections above it count in the confusion matrix and as mistakes; what `pyrcnn detect` shows
_SHORT = {"small": "APs", "medium": "APm", "large": "APl"}


@dataclass(frozen=True)
class ClassScores:
    """The numbers of one class.

    Attributes:
        name: its name; two classes of one name have their ids in it.
        label: its label in the data set.
        objects: how many it has, without crowds.
        images: how many images have one.
        detections: how many there are, of any score.
        scores: AP, AP50, AP75, APs, APm, APl and AR (at most 100 detections per image) as COCO defines them, for this
            class alone; -1 where there are no objects. APs is missing for keypoints.

    Example::

        {one.name: one.scores["AP50"] for one in evaluate.analyze(model, val_data).classes}
    """

    name: str
    label: int
    objects: int
    images: int
    detections: int
    scores: dict[str, float]


class ScoreCurve(NamedTuple):
    """What remains of the detections above each score, at IoU 0.5; all [D], in descending order of score."""

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total > 0)


@dataclass(frozen=True)
class Evaluation:
    """What :func:`analyze` returns. C classes with objects, T IoU thresholds, R recalls, S sizes.

    Attributes:
        scores: COCO's numbers, as :func:`coco` returns them.
        classes: the classes that have objects, in the order of their labels.
        names: the name of each label of the data set.
        keypoints: whether keypoints were scored; then IoU means OKS.
        ious: [T] 0.5, 0.55, … 0.95.
        recalls: [R] 0, 0.01, … 1.
        sizes: of objects: all, small (below 32² pixels), medium (below 96²) and large; without small for keypoints.
        precision: [T, R, C, S] the interpolated precision; -1 without objects of the size.
        thresholds: [T, R, C, S] the score down to which detections reach that recall; 0 where none do.
        recall: [T, C, S] the highest recall.
        score: the score above which detections count in ``confusion`` and ``mistakes``.
        confusion: [C of all + 1, C of all + 1] of :func:`~pyrcnn.evaluate.matches.confusion`; None for keypoints.
        images: the matches of every image; empty if they were not asked for.

    Example::

        found = evaluate.analyze(model, val_data)
        recall_at_half = found.recall[0, :, 0]  # of each class, at IoU 0.5, all sizes
    """

    scores: dict[str, float]
    classes: list[ClassScores]
    names: list[str]
    keypoints: bool
    ious: np.ndarray
    recalls: np.ndarray
    sizes: tuple[str, ...]
    precision: np.ndarray
    thresholds: np.ndarray
    recall: np.ndarray
    score: float = SCORE
    confusion: np.ndarray | None = None
    images: list[ImageMatches] = field(default_factory=list)

    def mistakes(self) -> list[Mistake]:
        """Return wrong detections and missed objects, see :func:`pyrcnn.evaluate.matches.mistakes`."""
        return matches.mistakes(self.images, self.score)

    def score_curve(self, label: int | None = None) -> ScoreCurve:
        """Return precision and recall above each score, of one class or of all together."""
        picked = [(image.labels == label if label is not None else np.ones(len(image.labels), dtype=bool))
                  & ~image.ignored for image in self.images]  # fmt: skip
        scores = np.concatenate([np.zeros(0), *(i.scores[p] for i, p in zip(self.images, picked, strict=True))])
        right = np.concatenate([np.zeros(0), *(i.objects[p] >= 0 for i, p in zip(self.images, picked, strict=True))])
        objects = sum(c.objects for c in self.classes if label in (None, c.label))
        order = np.argsort(-scores, kind="stable")
        scores, hits = scores[order], np.cumsum(right[order])
        last = np.flatnonzero(np.diff(scores, append=-np.inf) != 0)  # equal scores are above no threshold apart
        count = np.arange(1, len(scores) + 1)
        return ScoreCurve(scores[last], (hits / count)[last], hits[last] / max(objects, 1))


def analyze(model_or_detections: Any, dataset: CocoDataset | str | Path, *, keypoints: bool = False,
            sigmas: Sequence[float] | None = None, score: float = SCORE, per_image: bool = True,
            batch_size: int = inference.BATCH, plain: bool = False, engine: str | None = None,
            progress: Callable[[int, int], None] | None = None) -> Evaluation:  # fmt: skip
    """Return COCO's numbers and what they consist of, all from pycocotools' own matching.

    Args:
        model_or_detections, dataset, keypoints, sigmas, batch_size, plain, engine, progress: as in :func:`coco`.
        score: detections above it count in the confusion matrix and as mistakes.
        per_image: whether to match image by image, for the confusion matrix, mistakes and score curves.

    Raises:
        pyrcnn.InputError: as :func:`coco` does, and for a ``score`` that is no number.

    Example::

        for of_class in evaluate.analyze(model, val_data).classes:
            print(of_class.name, of_class.scores["AP"])
    """
    inputs = gather(model_or_detections, dataset, batch_size=batch_size, plain=plain, engine=engine, progress=progress)
    return analyze_inputs(inputs, keypoints, sigmas, score, per_image)


def analyze_inputs(inputs: Inputs, keypoints: bool = False, sigmas: Sequence[float] | None = None,
                   score: float = SCORE, per_image: bool = True) -> Evaluation:  # fmt: skip
    """Return the analysis of gathered inputs, see :func:`analyze`."""
    require(isinstance(score, int | float) and score == score, f"score must be a number, got {score!r}")
    results = inputs.checked(keypoints)
    scorer = cocoeval.run(inputs.annotations, results, keypoints, sigmas, all_labels=per_image)
    names = unique_names(inputs.annotations)
    found = Counter(r["label"] for r in results)
    objects, images = _counts(inputs.annotations, keypoints)
    kept = [k for k, label in enumerate(scorer.params.catIds) if objects[label]]
    # Of pycocotools' limits of detections, the last: 100, or 20 for keypoints.
    precision, thresholds, recall = (scorer.eval[name][..., -1] for name in ("precision", "scores", "recall"))
    of_class = [ClassScores(names[label], label, objects[label], images[label], found[label], _numbers(scorer, k))
                for k, label in enumerate(scorer.params.catIds) if objects[label]]  # fmt: skip
    return Evaluation(
        named(scorer.stats, keypoints), of_class, names, keypoints, np.asarray(scorer.params.iouThrs),
        np.asarray(scorer.params.recThrs), tuple(scorer.params.areaRngLbl),
        precision[:, :, kept], thresholds[:, :, kept], recall[:, kept], score,
        matches.confusion(inputs.annotations, results, score) if per_image and not keypoints else None,
        matches.image_matches(scorer, inputs.annotations) if per_image else [],
    )  # fmt: skip


def _counts(annotations: Annotations, keypoints: bool) -> tuple[Counter[int], Counter[int]]:
    """Return how many scored objects each label has, and how many images have one."""
    objects: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for some in annotations.objects.values():
        labels = [o.label for o in some if not o.crowd and (o.keypoints is not None or not keypoints)]
        objects.update(labels)
        images.update(set(labels))
    return objects, images


def _numbers(scorer: COCOeval, k: int) -> dict[str, float]:
    """Return the numbers of the class at position ``k``, as pycocotools summarizes them for all classes."""
    precision, recall = scorer.eval["precision"][:, :, k, :, -1], scorer.eval["recall"][:, k, :, -1]
    ious, sizes = np.asarray(scorer.params.iouThrs), list(scorer.params.areaRngLbl)
    found = {"AP": _mean(precision[:, :, 0])}
    for iou in (0.5, 0.75):
        found[f"AP{iou * 100:.0f}"] = _mean(precision[np.isclose(ious, iou), :, 0])
    found |= {_SHORT[size]: _mean(precision[:, :, a]) for a, size in enumerate(sizes) if size in _SHORT}
    return found | {"AR": _mean(recall[:, 0])}


def _mean(values: np.ndarray) -> float:
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0
