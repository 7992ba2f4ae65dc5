"""Runs a model over a data set and returns what it detects in COCO's result format."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import inference
from ..data import CocoDataset, as_coco
from ..errors import InputError, require
from ..images import ImageError
from ..models import unwrap
from ..models.labels import all_unnamed, class_labels, match_classes
from ..structures import Detections
from ..texts import listed

_log = logging.getLogger("pyrcnn.evaluate")

Results = list[dict[str, Any]]


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

    Returns:
        dictionaries with ``image_id``, ``category_id``, ``bbox`` (x, y, width, height in pixels), ``score``, and
        ``keypoints`` if the model predicts them.

    Example::

        json.dump(evaluate.predict(model, data.coco("images", "test.json")), open("results.json", "w"))
    """
    model = unwrap(model)
    dataset = check_dataset(dataset)
    categories = category_ids(model, dataset)
    results: Results = []
    with evaluating(model):
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

    Args:
        detections: of one image.
        image_id: its id in the annotations.
        category_ids: one id per label; detections of a label with None are left out.

    Raises:
        pyrcnn.InputError: for a label without an entry in ``category_ids``.

    Example:
        >>> import torch
        >>> found = Detections(torch.tensor([[1.0, 2.0, 5.0, 8.0]]), torch.tensor([0.5]), torch.tensor([0]))
        >>> to_results(found, 7, [1])
        [{'image_id': 7, 'category_id': 1, 'bbox': [1.0, 2.0, 4.0, 6.0], 'score': 0.5}]
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


def check_dataset(dataset: Any) -> CocoDataset:
    """Return ``dataset`` as a ``CocoDataset``; raise :class:`pyrcnn.InputError` if it is none."""
    found = as_coco(dataset)
    if found is None:
        raise InputError(
            "dataset must be from data.coco, or a Subset or ConcatDataset of such, got "
            f"{type(dataset).__name__}; result dictionaries and files can be scored on an annotation file too"
        )
    return found


def category_ids(model: nn.Module, dataset: CocoDataset) -> list[int | str | None]:
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
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode and disable gradients; restore its mode at the end."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
