"""COCO's average precision, computed by pycocotools and returned under COCO's names in COCO's order."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from . import inference
from .data import CocoDataset
from .errors import InputError, require
from .structures import Detections

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
            boxes in pixels of the image; a list of COCO result dictionaries; or the path of a results file.
        dataset: a data set (:func:`pyrcnn.data.coco`), or the path of an annotation file if the results are given as
            dictionaries or a file. Labels become the model's ``category_ids``, or the data set's if it has none.
        keypoints: score keypoints instead of boxes.
        sigmas: the tolerance of each keypoint; None for COCO's 17.
        batch_size, plain, engine, progress: as in :func:`predict`, if a model is given.

    Raises:
        pyrcnn.InputError: if a file cannot be read, or results and annotations do not belong together.

    Source: https://cocodataset.org/#detection-eval and https://cocodataset.org/#keypoints-eval
    """
    if isinstance(model_or_detections, (str, Path)):
        results = _read(model_or_detections, "detections", list)
    elif isinstance(model_or_detections, nn.Module):
        results = predict(model_or_detections, _checked_dataset(dataset), batch_size=batch_size, plain=plain,
                          engine=engine, progress=progress)  # fmt: skip
    else:
        results = list(model_or_detections)
        if results and isinstance(results[0], Detections):
            results = _as_results(results, _checked_dataset(dataset))
    truth = dataset.ground_truth() if isinstance(dataset, CocoDataset) else _read(dataset, "annotations", dict)
    return score(truth, results, keypoints=keypoints, sigmas=sigmas)


def _checked_dataset(dataset: Any) -> CocoDataset:
    require(isinstance(dataset, CocoDataset), f"dataset must be from data.coco, got {type(dataset).__name__}")
    return dataset


def _as_results(detections: list[Detections], dataset: CocoDataset) -> Results:
    require(len(detections) == len(dataset), f"detections must be {len(dataset)}, one per image, got {len(detections)}")
    per_image = zip(dataset.records, detections, strict=True)
    return [r for record, found in per_image for r in to_results(found, record.image_id, dataset.category_ids)]


def predict(model: nn.Module, dataset: CocoDataset, *, batch_size: int = inference.BATCH, plain: bool = False,
            engine: str | None = None, progress: Callable[[int, int], None] | None = None) -> Results:  # fmt: skip
    """Return what ``model`` detects in every image of ``dataset``, as COCO result dictionaries.

    The model runs in eval mode; its mode is restored afterwards. From four images on, a faster copy of it runs, made by
    :func:`pyrcnn.deploy.optimize`.

    Args:
        model: a detector.
        dataset: the images, from :func:`pyrcnn.data.coco`.
        batch_size: the largest number of consecutive images of one size that the model gets at a time.
        plain: run ``model`` itself.
        engine: the engine of the faster copy; None for the default of ``optimize``.
        progress: ``progress(done, total)`` is called after each image.
    """
    categories = _category_ids(model, dataset)
    results: Results = []
    with _evaluating(model):
        fast = inference.faster(model, len(dataset), plain=plain, engine=engine)
        numbers = range(len(dataset))
        for i, _, found in inference.detect(fast, numbers, dataset.image, batch_size):
            if isinstance(found, InputError):
                raise found
            results += to_results(found, dataset.records[i].image_id, categories)
            if progress is not None:
                progress(i + 1, len(dataset))
    return results


def to_results(detections: Detections, image_id: int | str, category_ids: Sequence[int]) -> Results:
    """Return one image's detections as COCO result dictionaries; ``bbox`` is x, y, width, height in pixels."""
    arrays = detections.numpy()
    boxes = arrays["boxes"].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    keypoints = arrays.get("keypoints")
    results: Results = []
    for i, (box, one_score, label) in enumerate(zip(boxes, arrays["scores"], arrays["labels"], strict=True)):
        result = {"image_id": image_id, "category_id": category_ids[int(label)], "bbox": box.tolist(),
                  "score": float(one_score)}  # fmt: skip
        if keypoints is not None:
            result["keypoints"] = keypoints[i].reshape(-1).astype(np.float64).tolist()
        results.append(result)
    return results


def score(truth: Mapping[str, Any], results: Results, *, keypoints: bool = False,
          sigmas: Sequence[float] | None = None) -> dict[str, float]:  # fmt: skip
    """Return COCO's numbers for ``results`` under COCO's names (``AP`` …); -1 where there is no ground truth.

    Args:
        truth: COCO's annotation dictionary.
        results: COCO result dictionaries.
        keypoints: score keypoints instead of boxes.
        sigmas: the tolerance of each keypoint; None for COCO's 17.

    Raises:
        pyrcnn.InputError: if an entry lacks a field, or its image is not in ``truth``.
    """
    kind = "keypoints" if keypoints else "bbox"
    _check(truth, results, kind, sigmas)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        ground = COCO()
        ground.dataset = dict(truth)
        ground.createIndex()
        # loadRes decides by the first entry's fields whether it scores boxes or keypoints, so it gets only the fields
        # of this kind.
        wanted = ("image_id", "category_id", "score", kind)
        found = ground.loadRes([{k: r[k] for k in wanted} for r in results]) if results else _empty_results(ground)
        scorer = COCOeval(ground, found, kind)
        if sigmas is not None:
            scorer.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return dict(zip(KEYPOINT_NAMES if keypoints else BOX_NAMES, map(float, scorer.stats), strict=True))


def _empty_results(ground: COCO) -> COCO:
    """Return an empty result set, which ``loadRes`` cannot make."""
    found = COCO()
    found.dataset = {"images": ground.dataset["images"], "categories": ground.dataset["categories"], "annotations": []}
    found.createIndex()
    return found


def _check(truth: Mapping[str, Any], results: Results, kind: str, sigmas: Sequence[float] | None) -> None:
    good = all(isinstance(truth.get(k), list) for k in ("images", "annotations", "categories"))
    require(good, "annotations must hold the lists images, annotations and categories (COCO's format)")
    wanted = ("image_id", "category_id", "score", kind)
    known = {image["id"] for image in truth["images"]}
    for number, result in enumerate(results):
        lacking = [k for k in wanted if k not in result]
        missing = ", ".join(lacking)
        require(not lacking, f"detections entry {number} must have {', '.join(wanted)}, got no {missing}")
        require(
            result["image_id"] in known,
            f"detections entry {number} must have an image_id of the annotations, got {result['image_id']}",
        )
    if kind == "keypoints":
        count = next((len(a["keypoints"]) // 3 for a in truth["annotations"] if a.get("keypoints")), None)
        require(count is not None, "annotations must hold keypoints to score keypoints, got none")
        expected = COCO_KEYPOINTS if sigmas is None else len(sigmas)
        require(count == expected, f"sigmas must be {count}, one per keypoint, got {expected}")


def _read(path: str | Path, name: str, kind: type) -> Any:
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{name} must be a readable file, got {path} ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{name} must be valid JSON, got {path} ({error})") from None
    wanted = "list" if kind is list else "object"
    require(isinstance(content, kind), f"{name} must hold a JSON {wanted}, got {type(content).__name__} in {path}")
    return content


def _category_ids(model: nn.Module, dataset: CocoDataset) -> Sequence[int]:
    own = getattr(model, "category_ids", None)
    if own is None:
        count = getattr(getattr(model, "config", None), "num_classes", len(dataset.classes))
        require(
            count == len(dataset.classes),
            f"model must have category_ids or the {len(dataset.classes)} classes of the data set, got {count} classes",
        )
        return dataset.category_ids
    if not set(own) & set(dataset.category_ids):
        logging.getLogger("pyrcnn.evaluate").warning("model and data set have no category id in common")
    return list(own)


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
