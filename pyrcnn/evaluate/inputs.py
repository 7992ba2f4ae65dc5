"""Brings what users give, a model, detections or a results file and a data set or an annotation file, to one form."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..data import CocoDataset, Report
from ..data.annotations import AnnotationFile, Annotations
from ..data.results import ResultReader
from ..data.values import read_json
from ..errors import require
from ..structures import Detections
from .prediction import Results, check_dataset, predict, to_results

_log = logging.getLogger("pyrcnn.evaluate")


@dataclass(frozen=True)
class Inputs:
    """Ground truth and detections.

    Attributes:
        annotations: the ground truth.
        results: the detections as given, in COCO's result format.
        source: where they come from, for messages.
        dataset: the data set with its images; None for an annotation file.
        model: the model whose results they are, if one was given.
    """

    annotations: Annotations
    results: Any
    source: str = "detections"
    dataset: CocoDataset | None = None
    model: nn.Module | None = None

    def checked(self, keypoints: bool = False) -> Results:
        """Return the usable detections, see ``ResultReader.read``; a report of the others is logged as a warning."""
        problems = Report(self.source)
        found = ResultReader(self.annotations, keypoints, problems).read(self.results)
        log_problems(problems)
        return found


def gather(model_or_detections: Any, dataset: Any, **options: Any) -> Inputs:
    """Return the inputs of an evaluation; ``options`` are those of :func:`predict`, for a model."""
    results, source = model_or_detections, "detections"
    model = results if isinstance(results, nn.Module) else None
    if isinstance(results, str | os.PathLike):
        source = os.fspath(results)
        results = read_json(results, "detections")
    elif model is not None:
        results = predict(model, check_dataset(dataset), **options)
    elif isinstance(results, Iterable) and not isinstance(results, Mapping):
        results = list(results)
        if any(isinstance(found, Detections) for found in results):
            results = _as_results(results, check_dataset(dataset))
    if isinstance(dataset, str | os.PathLike):
        return Inputs(read_annotations(Path(dataset), os.fspath(dataset)), results, source)
    dataset = check_dataset(dataset)
    return Inputs(dataset.annotations(), results, source, dataset, model)


def _as_results(detections: Sequence[Any], dataset: CocoDataset) -> Results:
    require(len(detections) == len(dataset), f"detections must be {len(dataset)}, one per image, got {len(detections)}")
    results: Results = []
    for record, found in zip(dataset.records, detections, strict=True):
        require(isinstance(found, Detections), f"detections must hold pyrcnn.Detections, got {type(found).__name__}")
        results += to_results(found, record.image_id, dataset.category_ids)
    return results


def read_annotations(content: Any, source: str = "annotations") -> Annotations:
    """Return a checked annotation file, given as path or as its content; its faults are logged as a warning."""
    report = Report(source)
    annotations = AnnotationFile(content, report)
    log_problems(report)
    return annotations


def log_problems(report: Report) -> None:
    """Log a report that is not empty."""
    if report:
        _log.warning("%s", report)
