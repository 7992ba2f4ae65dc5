"""COCO's average precision through pycocotools, under COCO's names and in COCO's order."""

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
COCO_JOINTS = 17  # pycocotools knows the tolerances of COCO's person only

Results = list[dict[str, Any]]


def coco(model_or_detections: Any, dataset: CocoDataset | str | Path, *, keypoints: bool = False,
         sigmas: Sequence[float] | None = None, batch_size: int = inference.BATCH, plain: bool = False,
         engine: str | None = None,
         progress: Callable[[int, int], None] | None = None) -> dict[str, float]:  # fmt: skip
    """COCO's numbers: 12 for boxes (``AP AP50 … ARl``), 10 for ``keypoints``; -1 where there is no ground truth.

    ``model_or_detections``: a model, a list of :class:`~pyrcnn.Detections` in the data set's order (boxes in pixels of
    the pictures), a list of COCO result dictionaries, or the path of a results file. ``dataset``: a data set, or the
    path of an annotation file when no model has to run. Labels are written as the model's ``category_ids``, or the data
    set's when it has none. ``sigmas`` are the keypoints' tolerances (None: COCO's 17). ``batch_size``, ``plain``,
    ``engine`` and ``progress`` are those of :func:`predict`.
    """
    if isinstance(model_or_detections, (str, Path)):
        results = _read(model_or_detections, "detections", list)
    elif isinstance(model_or_detections, nn.Module):
        results = predict(model_or_detections, _pictures(dataset), batch_size=batch_size, plain=plain, engine=engine,
                          progress=progress)  # fmt: skip
    else:
        results = list(model_or_detections)
        if results and isinstance(results[0], Detections):
            results = _as_results(results, _pictures(dataset))
    truth = dataset.ground_truth() if isinstance(dataset, CocoDataset) else _read(dataset, "annotations", dict)
    return score(truth, results, keypoints=keypoints, sigmas=sigmas)


def _pictures(dataset: Any) -> CocoDataset:
    require(isinstance(dataset, CocoDataset), f"dataset must be a data set (data.coco), got {type(dataset).__name__}")
    return dataset


def _as_results(detections: list[Detections], dataset: CocoDataset) -> Results:
    require(len(detections) == len(dataset), f"detections must be {len(dataset)}, one a picture, got {len(detections)}")
    pairs = zip(dataset.records, detections, strict=True)
    return [r for record, found in pairs for r in to_results(found, record.image_id, dataset.category_ids)]


def predict(model: nn.Module, dataset: CocoDataset, *, batch_size: int = inference.BATCH, plain: bool = False,
            engine: str | None = None, progress: Callable[[int, int], None] | None = None) -> Results:  # fmt: skip
    """What ``model`` finds in every picture of ``dataset``, as COCO result dictionaries; its mode is left as it was.

    From four images on, the copy of ``model`` that :func:`pyrcnn.deploy.optimize` makes is run (``engine`` is passed to
    it), unless ``plain``. ``batch_size`` is the largest number of consecutive images of one size per call.
    ``progress(done, all)`` is called after each image.
    """
    categories = _category_ids(model, dataset)
    results: Results = []
    with _evaluating(model):
        fast = inference.faster(model, len(dataset), plain=plain, engine=engine)
        numbers = range(len(dataset))
        for i, _, found in inference.detect(fast, numbers, dataset.picture, batch_size):
            if isinstance(found, InputError):
                raise found
            results += to_results(found, dataset.records[i].image_id, categories)
            if progress is not None:
                progress(i + 1, len(dataset))
    return results


def to_results(detections: Detections, image_id: int | str, category_ids: Sequence[int]) -> Results:
    """One picture's detections in COCO's result format: ``bbox`` is x, y, width, height in pixels."""
    arrays = detections.numpy()
    boxes = arrays["boxes"].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    joints = arrays.get("keypoints")
    results: Results = []
    for i, (box, one_score, label) in enumerate(zip(boxes, arrays["scores"], arrays["labels"], strict=True)):
        result = {"image_id": image_id, "category_id": category_ids[int(label)], "bbox": box.tolist(),
                  "score": float(one_score)}  # fmt: skip
        if joints is not None:
            result["keypoints"] = joints[i].reshape(-1).astype(np.float64).tolist()
        results.append(result)
    return results


def score(truth: Mapping[str, Any], results: Results, *, keypoints: bool = False,
          sigmas: Sequence[float] | None = None) -> dict[str, float]:  # fmt: skip
    """COCO's numbers of ``results`` against ``truth`` (COCO's annotation dictionary), under COCO's names (``AP`` ...).

    Of boxes, or with ``keypoints`` of keypoints, whose ``sigmas`` are one per joint (None: COCO's 17). A number that
    has nothing to be taken from is -1. Raises :class:`pyrcnn.InputError` for entries that lack a field or are of a
    picture that ``truth`` does not know.
    """
    kind = "keypoints" if keypoints else "bbox"
    _check(truth, results, kind, sigmas)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        ground = COCO()
        ground.dataset = dict(truth)
        ground.createIndex()
        # loadRes takes the whole file's kind from its first entry: hand it just what this kind needs.
        wanted = ("image_id", "category_id", "score", kind)
        found = ground.loadRes([{k: r[k] for k in wanted} for r in results]) if results else _nothing(ground)
        scorer = COCOeval(ground, found, kind)
        if sigmas is not None:
            scorer.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return dict(zip(KEYPOINT_NAMES if keypoints else BOX_NAMES, map(float, scorer.stats), strict=True))


def _nothing(ground: COCO) -> COCO:
    """An empty result set; ``loadRes`` cannot make one."""
    found = COCO()
    found.dataset = {"images": ground.dataset["images"], "categories": ground.dataset["categories"], "annotations": []}
    found.createIndex()
    return found


def _check(truth: Mapping[str, Any], results: Results, kind: str, sigmas: Sequence[float] | None) -> None:
    good = all(isinstance(truth.get(k), list) for k in ("images", "annotations", "categories"))
    require(good, "annotations must hold the lists images, annotations and categories (COCO's format)")
    known = {image["id"] for image in truth["images"]}
    for number, result in enumerate(results):
        lacking = [k for k in ("image_id", "category_id", "score", kind) if k not in result]
        require(not lacking, f"detections entry {number} lacks {', '.join(lacking)}")
        require(
            result["image_id"] in known,
            f"detections entry {number} is of picture {result['image_id']}, which is not annotated",
        )
    if kind == "keypoints":
        count = next((len(a["keypoints"]) // 3 for a in truth["annotations"] if a.get("keypoints")), None)
        require(count is not None, "annotations hold no keypoints")
        expected = COCO_JOINTS if sigmas is None else len(sigmas)
        require(count == expected, f"sigmas must be one per keypoint, {count}, got {expected}")


def _read(path: str | Path, name: str, kind: type) -> Any:
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{name} cannot be read: {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{name} is not valid JSON: {path}: {error}") from None
    require(isinstance(content, kind), f"{name} must hold a JSON {'list' if kind is list else 'object'}: {path}")
    return content


def _category_ids(model: nn.Module, dataset: CocoDataset) -> Sequence[int]:
    own = getattr(model, "category_ids", None)
    if own is None:
        count = getattr(getattr(model, "config", None), "num_classes", len(dataset.classes))
        require(
            count == len(dataset.classes),
            f"model has {count} classes and no category_ids, the data set {len(dataset.classes)}",
        )
        return dataset.category_ids
    if not set(own) & set(dataset.category_ids):
        logging.getLogger("pyrcnn.evaluate").warning("model and data set have no category id in common")
    return list(own)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
