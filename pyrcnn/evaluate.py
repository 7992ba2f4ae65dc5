"""COCO's average precision, computed by pycocotools and returned under COCO's names in COCO's order."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from . import inference
from .data import CocoDataset, Report, as_coco
from .data.annotations import AnnotationFile, Annotations, dictionary
from .data.results import ResultReader
from .data.values import in_order, numbers, read_json, shown
from .errors import InputError, require
from .images import ImageError
from .models import unwrap
from .models.labels import all_unnamed, class_labels, listed, match_classes
from .structures import Detections

_log = logging.getLogger("pyrcnn.evaluate")

BOX_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
KEYPOINT_NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
COCO_KEYPOINTS = 17  # pycocotools has tolerances for the keypoints of COCO's person only

Results = list[dict[str, Any]]


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
    """
    results, source = model_or_detections, "detections"
    if isinstance(results, str | os.PathLike):
        source = os.fspath(results)
        results = read_json(results, "detections")
    elif isinstance(results, nn.Module):
        results = predict(results, _checked_dataset(dataset), batch_size=batch_size, plain=plain, engine=engine,
                          progress=progress)  # fmt: skip
    elif isinstance(results, Iterable) and not isinstance(results, Mapping):
        results = list(results)
        if any(isinstance(found, Detections) for found in results):
            results = _as_results(results, _checked_dataset(dataset))
    if isinstance(dataset, str | os.PathLike):
        report = Report(os.fspath(dataset))
        truth: Annotations = AnnotationFile(read_json(dataset, "annotations"), report)
        _log_problems(report)
    else:
        truth = _checked_dataset(dataset).annotations()
    return _score(truth, results, keypoints, sigmas, source)


def _checked_dataset(dataset: Any) -> CocoDataset:
    found = as_coco(dataset)
    if found is None:
        raise InputError(
            "dataset must be from data.coco, or a Subset or ConcatDataset of such, got "
            f"{type(dataset).__name__}; result dictionaries and files can be scored on an annotation file too"
        )
    return found


def _as_results(detections: Sequence[Any], dataset: CocoDataset) -> Results:
    require(len(detections) == len(dataset), f"detections must be {len(dataset)}, one per image, got {len(detections)}")
    results: Results = []
    for record, found in zip(dataset.records, detections, strict=True):
        require(isinstance(found, Detections), f"detections must hold pyrcnn.Detections, got {type(found).__name__}")
        results += to_results(found, record.image_id, dataset.category_ids)
    return results


def predict(model: nn.Module, dataset: CocoDataset, *, batch_size: int = inference.BATCH, plain: bool = False,
            engine: str | None = None, progress: Callable[[int, int], None] | None = None) -> Results:  # fmt: skip
    """Return what ``model`` detects in every image of ``dataset``, as COCO result dictionaries.

    The model runs in eval mode; its mode is restored afterwards. From four images on, a faster copy of it runs, made by
    :func:`pyrcnn.deploy.optimize`.

    The model's classes are joined with those of the data set by name; where it has as many without names, by their
    order. Results have the data set's category ids;
    detections of classes that the data set does not have are left out.

    Args:
        model: a detector, which may be wrapped (``torch.compile``, ``DataParallel``, ``AveragedModel``).
        dataset: the images, from :func:`pyrcnn.data.coco`; or a ``Subset`` or ``ConcatDataset`` of such data sets.
        batch_size: the largest number of consecutive images of one size that the model gets at a time.
        plain: run ``model`` itself.
        engine: the engine of the faster copy; None for the default of ``optimize``.
        progress: ``progress(done, total)`` is called after each image.

    Raises:
        pyrcnn.InputError: if the model lacks a class that has objects in the data set.
    """
    model = unwrap(model)
    dataset = _checked_dataset(dataset)
    categories = _category_ids(model, dataset)
    results: Results = []
    with _evaluating(model):
        fast = inference.faster(model, len(dataset), plain=plain, engine=engine)
        numbers = range(len(dataset))
        for i, _, found in inference.detect(fast, numbers, dataset.image, batch_size):
            if isinstance(found, ImageError):
                dataset.skip(i, found)
            elif isinstance(found, InputError):
                raise found
            else:
                results += _countable(to_results(found, dataset.records[i].image_id, categories))
            if progress is not None:
                progress(i + 1, len(dataset))
    return results


def _countable(results: Results) -> Results:
    """Return a model's results that can be scored: without NaN, and inverted boxes as empty ones, which match nothing.

    A model at the start of its training may return both.
    """
    for result in results:
        x, y, width, height = result["bbox"]
        result["bbox"] = [x, y, max(width, 0.0), max(height, 0.0)]
    return [r for r in results if np.isfinite([r["score"], *r["bbox"], *r.get("keypoints", ())]).all()]


def to_results(detections: Detections, image_id: int | str, category_ids: Sequence[int | str | None]) -> Results:
    """Return one image's detections as COCO result dictionaries; ``bbox`` is x, y, width, height in pixels.

    ``category_ids`` has one id per label; detections of a label with None are left out.
    """
    arrays = detections.numpy()
    boxes = arrays["boxes"].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    keypoints = arrays.get("keypoints")
    results: Results = []
    for i, (box, one_score, label) in enumerate(zip(boxes, arrays["scores"], arrays["labels"], strict=True)):
        known = 0 <= label < len(category_ids)
        require(known, f"detections must have labels in 0..{len(category_ids) - 1}, got {label}")
        if category_ids[int(label)] is None:
            continue
        result = {"image_id": image_id, "category_id": category_ids[int(label)], "bbox": box.tolist(),
                  "score": float(one_score)}  # fmt: skip
        if keypoints is not None:
            result["keypoints"] = keypoints[i].reshape(-1).astype(np.float64).tolist()
        results.append(result)
    return results


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
    """
    report = Report("annotations")
    annotations = AnnotationFile(truth, report)
    _log_problems(report)
    return _score(annotations, results, keypoints, sigmas, "detections")


def _log_problems(report: Report) -> None:
    if report:
        _log.warning("%s", report)


def _score(annotations: Annotations, results: Any, keypoints: bool, sigmas: Sequence[float] | None,
           source: str) -> dict[str, float]:  # fmt: skip
    problems = Report(source)
    # Classes without objects have no AP. pycocotools would spend time on each of them in each image.
    scored = {found.label for objects in annotations.objects.values() for found in objects}
    scored &= _scored_labels(annotations, sigmas) if keypoints else scored
    found = ResultReader(annotations, keypoints, problems).read(results)
    _log_problems(problems)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        stats = _stats(annotations, found, sorted(scored), "keypoints" if keypoints else "bbox", sigmas)
    return dict(zip(KEYPOINT_NAMES if keypoints else BOX_NAMES, stats, strict=True))


def _stats(annotations: Annotations, results: Results, scored: Sequence[int], kind: str,
           sigmas: Sequence[float] | None) -> list[float]:  # fmt: skip
    """Return pycocotools' numbers. Images and categories get numbers, because it cannot sort ids of several types."""
    numbers = {image_id: number for number, image_id in enumerate(in_order(annotations.images), start=1)}
    categories = [{**c, "id": label} for label, c in enumerate(annotations.categories)]
    ground = COCO()
    ground.dataset = dictionary(categories, (({"id": n}, annotations.objects[i]) for i, n in numbers.items()))
    ground.createIndex()
    # loadRes decides by the first entry's fields whether it scores boxes or keypoints: entries have those of one kind.
    entries = [{"image_id": numbers[r["image_id"]], "category_id": r["label"], "score": r["score"], kind: r[kind]}
               for r in results]  # fmt: skip
    scorer = COCOeval(ground, ground.loadRes(entries) if entries else _empty_results(ground), kind)
    scorer.params.catIds = list(scored)
    if sigmas is not None:
        scorer.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return [float(value) for value in scorer.stats]


def _scored_labels(annotations: Annotations, sigmas: Sequence[float] | None) -> set[int]:
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


def scores_keypoints(dataset: CocoDataset) -> bool:
    """Whether keypoints can be scored with COCO's tolerances: some object has labelled ones, 17 of them."""
    return any(k is not None and len(k) == COCO_KEYPOINTS for r in dataset.records for k in r.objects.keypoints)


def _empty_results(ground: COCO) -> COCO:
    """Return an empty result set, which ``loadRes`` cannot make."""
    found = COCO()
    found.dataset = {"images": ground.dataset["images"], "categories": ground.dataset["categories"], "annotations": []}
    found.createIndex()
    return found


def _category_ids(model: nn.Module, dataset: CocoDataset) -> list[int | str | None]:
    """Return the data set's category id of each of the model's labels; None for classes that it does not have."""
    ids, names = class_labels(model)
    if not ids:
        count = getattr(getattr(model, "config", None), "num_classes", len(dataset.classes))
        require(
            count == len(dataset.classes),
            f"model must have category_ids or the {len(dataset.classes)} classes of the data set, got {count} classes",
        )
        return list(dataset.category_ids)
    if all_unnamed(names, ids) and len(ids) == len(dataset.classes):
        if names != dataset.classes:
            _log.warning(
                "the model's classes have no names: they are taken as %s, in this order", listed(dataset.classes)
            )
        return list(dataset.category_ids)
    found = match_classes(dataset.classes, dataset.category_ids, names, ids)
    missing = dataset.without_counterpart(found)
    require(not missing, f"model must have the classes of the data set, got none named {listed(missing)}; "
                         f"model.classes are {listed(names)}: set them to the names in "
                         f"{dataset.report.source} if they mean the same")  # fmt: skip
    category_of = dict(zip(found, dataset.category_ids, strict=True))
    return [category_of.get(label) for label in range(len(ids))]


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode and disable gradients; restore its mode at the end."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
