"""COCO's average precision, computed by pycocotools and returned under COCO's names in COCO's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import inference
from ..data import CocoDataset
from . import cocoeval
from .inputs import Inputs, gather, read_annotations

# The keys of COCO's numbers for boxes, in COCO's order.
BOX_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
# The keys of COCO's numbers for keypoints, in COCO's order.
KEYPOINT_NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


def coco(model_or_detections: Any, dataset: CocoDataset | str | Path, *, keypoints: bool = False,
         sigmas: Sequence[float] | None = None, batch_size: int = inference.BATCH, plain: bool = False,
         engine: str | None = None,
         progress: Callable[[int, int], None] | None = None) -> dict[str, float]:  # fmt: skip
    """Return COCO's 12 numbers for boxes (``AP AP50 … ARl``) or 10 for keypoints; -1 where there is no ground truth.

    Args:
        model_or_detections: a model; a list of :class:`~pyrcnn.Detections`, one per image in the data set's order with
            boxes in pixels of the image and the data set's labels; a list of COCO result dictionaries; or the path of a
            results file. A model's classes are joined with those of the data set by name.
        dataset: a data set (:func:`pyrcnn.data.coco`, or a ``Subset`` or ``ConcatDataset`` of such), or the path of an
            annotation file if the results are given as dictionaries or a file.
        keypoints: score keypoints instead of boxes.
        sigmas: the tolerance of each keypoint; None for COCO's 17.
        batch_size, plain, engine, progress: as in :func:`predict`, if a model is given.

    Raises:
        pyrcnn.InputError: if a file cannot be read, or model, results and annotations do not belong together. Single
            entries that cannot be used are left out, with a report that is logged as a warning.

    Source: https://cocodataset.org/#detection-eval and https://cocodataset.org/#keypoints-eval

    Example::

        evaluate.coco(model, data.coco("images", "test.json"))["AP50"]
    """
    inputs = gather(model_or_detections, dataset, batch_size=batch_size, plain=plain, engine=engine, progress=progress)
    return _numbers(inputs, keypoints, sigmas)


def score(truth: Mapping[str, Any], results: Any, *, keypoints: bool = False,
          sigmas: Sequence[float] | None = None) -> dict[str, float]:  # fmt: skip
    """Return COCO's numbers for ``results`` under COCO's names (``AP`` …); -1 where there is no ground truth.

    Entries that cannot be used are left out; a report of them is logged as a warning.

    Args:
        truth: COCO's annotation dictionary.
        results: COCO result dictionaries, which join the categories by ``category_id``, or by name if they have a
            ``category_name``; or a dictionary in COCO's annotation format whose annotations have scores.
        keypoints: score keypoints instead of boxes.
        sigmas: the tolerance of each keypoint; None for COCO's 17.

    Raises:
        pyrcnn.InputError: if ``truth`` or all of ``results`` cannot be used.

    Example::

        evaluate.score(json.load(open("test.json")), json.load(open("results.json")))["AP"]
    """
    return _numbers(Inputs(read_annotations(truth), results), keypoints, sigmas)


def _numbers(inputs: Inputs, keypoints: bool, sigmas: Sequence[float] | None) -> dict[str, float]:
    return named(cocoeval.run(inputs.annotations, inputs.checked(keypoints), keypoints, sigmas).stats, keypoints)


def named(stats: Sequence[float], keypoints: bool) -> dict[str, float]:
    """Return COCO's numbers under their names."""
    return dict(zip(KEYPOINT_NAMES if keypoints else BOX_NAMES, map(float, stats), strict=True))


def scores_keypoints(dataset: CocoDataset) -> bool:
    """Whether keypoints can be scored with COCO's tolerances: some object has labelled ones, 17 of them.

    Args:
        dataset: a data set of :mod:`pyrcnn.data`.

    Example::

        evaluate.coco(model, val_data, keypoints=evaluate.scores_keypoints(val_data))
    """
    count = cocoeval.COCO_KEYPOINTS
    return any(k is not None and len(k) == count for r in dataset.records for k in r.objects.keypoints)
