"""Data sets in COCO's format: pictures in a folder, boxes (and keypoints) in one JSON file."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import InputError, require
from ..images import ImageError, read
from ..structures import Targets
from .records import THREADS, Record, RecordReader, joint_names
from .report import Report

_log = logging.getLogger("pyrcnn.data")


class CocoDataset(Dataset[tuple[Tensor, Targets]]):
    """Pictures [3, H, W] uint8 with their :class:`~pyrcnn.Targets`; what :func:`coco` returns.

    ``classes`` names the labels, ``category_ids`` gives their ids in the annotation file, ``report`` holds what was
    wrong with files and annotations, ``joints`` the keypoint names (empty: no keypoints).
    """

    def __init__(self, records: Sequence[Record], categories: Sequence[dict[str, Any]],
                 annotations: Sequence[dict[str, Any]], report: Report, cache: bool = False):  # fmt: skip
        self.records = list(records)
        self.categories = list(categories)
        self.classes: list[str] = [str(c.get("name", c["id"])) for c in categories]
        self.category_ids: list[int] = [c["id"] for c in categories]
        self.report = report
        self.joints = joint_names(categories)
        self._annotations = annotations
        self._pixels: list[Tensor] | None = None
        if cache:
            with ThreadPoolExecutor(THREADS) as pool:  # decoded once, before workers fork and share the memory
                self._pixels = list(pool.map(self._read, range(len(self.records))))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
        return self.picture(index), self.targets(index)

    def picture(self, index: int) -> Tensor:
        """Picture ``index`` as [3, H, W] uint8 RGB; do not write into it, it may be the cached one."""
        return self._read(index) if self._pixels is None else self._pixels[index]

    def targets(self, index: int) -> Targets:
        """The ground truth of picture ``index``."""
        record = self.records[index]
        keypoints = None if record.keypoints is None else torch.from_numpy(record.keypoints)
        return Targets(torch.from_numpy(record.boxes), torch.from_numpy(record.labels), keypoints,
                       torch.from_numpy(record.crowd))  # fmt: skip

    def _read(self, index: int) -> Tensor:
        record = self.records[index]
        try:
            return read(record.path, record.oriented).contiguous()
        except ImageError as error:
            raise InputError(f"image {record.path} can no longer be read: {error.reason}") from None

    def relabelled(self, category_ids: Sequence[int], classes: Sequence[str] | None = None) -> CocoDataset:
        """The same pictures with labels counted in another model's ``category_ids`` (which must hold all of ours)."""
        missing = [f"{i} ({c})" for i, c in zip(self.category_ids, self.classes, strict=True) if i not in category_ids]
        require(not missing, f"category_ids must hold every category of the data set, {', '.join(missing)} are missing")
        position = {category: label for label, category in enumerate(category_ids)}
        table = np.array([position[c] for c in self.category_ids], dtype=np.int64)
        known = {c["id"]: c for c in self.categories}
        names = [str(c) for c in category_ids] if classes is None else classes
        categories = [known.get(c, {"id": c, "name": n}) for c, n in zip(category_ids, names, strict=True)]
        records = [replace(r, labels=table[r.labels]) for r in self.records]
        other = CocoDataset(records, categories, self._annotations, self.report)
        other._pixels = self._pixels
        return other

    def ground_truth(self) -> dict[str, Any]:
        """COCO's own dictionary of the usable pictures, for scoring: boxes as the file gives them, before clipping.

        Annotations that no scorer can use (without an area, of an unknown category) are left out, and the rest is
        numbered anew from 1 (pycocotools takes an object numbered 0 for an unmatched one).
        """
        images = [{"id": r.image_id, "file_name": r.path.name, "height": r.size[0], "width": r.size[1]}
                  for r in self.records]  # fmt: skip
        annotations = []
        for number, annotation in enumerate(self._annotations, start=1):
            _, _, width, height = annotation["bbox"]
            kept = {k: v for k, v in annotation.items() if k != "segmentation"}
            annotations.append({"area": width * height, "iscrowd": 0, **kept, "id": number})
        return {"info": {}, "images": images, "annotations": annotations, "categories": self.categories}


def coco(
    images_dir: str | Path, annotations_json: str | Path, *, check: bool = True, cache: bool = False
) -> CocoDataset:
    """A data set in COCO's format: item ``i`` is (picture [3, H, W] uint8 RGB, :class:`~pyrcnn.Targets`).

    Labels count the file's categories from 0 in the order of their ids. Faults are collected into one report
    (``dataset.report``, also logged as a warning): a picture that is missing or damaged is skipped, a box that reaches
    outside its picture is clipped, a box without area or with an unknown category is skipped. ``check`` decodes every
    picture once to find truncated files (False: only headers are read); ``cache`` keeps the decoded pictures in memory.

    Raises :class:`~pyrcnn.InputError` when nothing is left to work with: no such folder, no JSON, no category, no
    readable picture.
    """
    images_dir, source_file = Path(images_dir), Path(annotations_json)
    require(images_dir.is_dir(), f"images_dir must be a folder, got {images_dir}")
    source = _read_json(source_file)
    report = Report(str(source_file))
    categories = _categories(source, report)
    reader = RecordReader(source, categories, report)
    records = reader.records(images_dir, check)
    if not source["annotations"]:
        report.add("annotations", "the list is empty, no picture has a box", "noted")
    require(bool(records), f"annotations_json leaves no picture to work with.\n{report}")
    if report:
        _log.warning("%s", report)
    return CocoDataset(records, categories, reader.usable, report, cache)


def _read_json(path: Path) -> dict[str, Any]:
    require(path.is_file(), f"annotations_json must be a file, got {path}")
    try:
        source = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"annotations_json is not valid JSON: {path}: {error}") from None
    good = isinstance(source, dict) and all(
        isinstance(source.get(k), list) for k in ("images", "annotations", "categories")
    )
    require(
        good,
        f"annotations_json must hold the lists images, annotations and categories (COCO's format), {path} does not",
    )
    require(bool(source["images"]), f"annotations_json lists no picture: {path}")
    return source


def _categories(source: dict[str, Any], report: Report) -> list[dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for category in source["categories"]:
        if not isinstance(category, dict) or not isinstance(category.get("id"), int):
            report.add(f"category {category!r}", "it has no integer id", "category skipped")
        elif category["id"] in found:
            report.add(f"category {category['id']}", "the id is used twice", "category skipped")
        else:
            found[category["id"]] = category
    require(bool(found), f"annotations_json names no category: {report.source}")
    return [found[i] for i in sorted(found)]
