"""Data sets in COCO's format: images in a folder, boxes and keypoints in one JSON file."""

from __future__ import annotations

import json
import logging
import warnings
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
from .records import THREADS, Record, RecordReader, keypoint_names
from .report import Report

_log = logging.getLogger("pyrcnn.data")


class CocoDataset(Dataset[tuple[Tensor, Targets]]):
    """Images [3, H, W] uint8 with their :class:`~pyrcnn.Targets`, as :func:`coco` returns them.

    Attributes:
        classes: the name of each label.
        category_ids: the id of each label in the annotation file.
        keypoint_names: the names of the J keypoints; empty if there are none.
        report: what was wrong with files and annotations, and what was done about it.
        records: one :class:`~pyrcnn.data.records.Record` per image.
    """

    def __init__(self, records: Sequence[Record], categories: Sequence[dict[str, Any]],
                 annotations: Sequence[dict[str, Any]], report: Report, cache: bool = False):  # fmt: skip
        self.records = list(records)
        self.categories = list(categories)
        self.classes: list[str] = [str(c.get("name", c["id"])) for c in categories]
        self.category_ids: list[int] = [c["id"] for c in categories]
        self.report = report
        self.keypoint_names = keypoint_names(categories)
        self._annotations = annotations
        self._pixels: list[Tensor] | None = None
        if cache:
            with ThreadPoolExecutor(THREADS) as pool:  # before the loader's workers fork, so that they share the memory
                self._pixels = list(pool.map(self._read, range(len(self.records))))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
        return self.image(index), self.targets(index)

    def image(self, index: int) -> Tensor:
        """Return image ``index`` as [3, H, W] uint8 RGB. Do not change it: it may be the cached copy."""
        return self._read(index) if self._pixels is None else self._pixels[index]

    def picture(self, index: int) -> Tensor:
        """Deprecated name of :meth:`image`."""
        warnings.warn("CocoDataset.picture is deprecated, use image", DeprecationWarning, stacklevel=2)
        return self.image(index)

    @property
    def joints(self) -> list[str]:
        """Deprecated name of ``keypoint_names``."""
        warnings.warn("CocoDataset.joints is deprecated, use keypoint_names", DeprecationWarning, stacklevel=2)
        return self.keypoint_names

    def targets(self, index: int) -> Targets:
        """Return the ground truth of image ``index``."""
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
        """Deprecated name of :meth:`relabel`."""
        warnings.warn("CocoDataset.relabelled is deprecated, use relabel", DeprecationWarning, stacklevel=2)
        return self.relabel(category_ids, classes)

    def relabel(self, category_ids: Sequence[int], classes: Sequence[str] | None = None) -> CocoDataset:
        """Return a data set of the same images whose labels are positions in ``category_ids``.

        Args:
            category_ids: a model's category ids; every category of this data set must be among them.
            classes: their names; None for the ids as text.

        Raises:
            pyrcnn.InputError: if a category of this data set is missing in ``category_ids``.
        """
        missing = [f"{i} ({c})" for i, c in zip(self.category_ids, self.classes, strict=True) if i not in category_ids]
        require(
            not missing, f"category_ids must hold every category of the data set, got none for {', '.join(missing)}"
        )
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
        """Return COCO's annotation dictionary of the usable images, for scoring; boxes are as in the file, not clipped.

        Annotations that no scorer can use (without an area, or of an unknown category) are left out. The others are
        numbered from 1, because pycocotools takes an object with id 0 for an unmatched one.
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
    """Return a data set in COCO's format; item ``i`` is (image [3, H, W] uint8 RGB, :class:`~pyrcnn.Targets`).

    Labels number the file's categories from 0, in the order of their ids. Faults are collected in ``dataset.report``,
    which is also logged as a warning: images that are missing or damaged are skipped, boxes that reach outside the
    image are clipped, and boxes without area or with an unknown category are skipped.

    Args:
        images_dir: the folder of the images.
        annotations_json: the annotation file.
        check: decode every image once to find truncated files; False reads only the headers.
        cache: keep the decoded images in memory.

    Raises:
        pyrcnn.InputError: if the folder does not exist, the file is not valid, or no usable category or image is left.

    Example::

        train_data = data.coco("images", "annotations/train.json")
        image, targets = train_data[0]
    """
    images_dir, source_file = Path(images_dir), Path(annotations_json)
    require(images_dir.is_dir(), f"images_dir must be a folder, got {images_dir}")
    source = _read_json(source_file)
    report = Report(str(source_file))
    categories = _categories(source, report)
    reader = RecordReader(source, categories, report)
    records = reader.records(images_dir, check)
    if not source["annotations"]:
        report.add("annotations", "the list is empty, so no image has a box", "noted")
    require(bool(records), f"annotations_json must leave at least one usable image, got none.\n{report}")
    if report:
        _log.warning("%s", report)
    return CocoDataset(records, categories, reader.usable, report, cache)


def _read_json(path: Path) -> dict[str, Any]:
    require(path.is_file(), f"annotations_json must be a file, got {path}")
    try:
        source = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"annotations_json must be valid JSON, got {path} ({error})") from None
    good = isinstance(source, dict) and all(
        isinstance(source.get(k), list) for k in ("images", "annotations", "categories")
    )
    require(
        good,
        f"annotations_json must hold the lists images, annotations and categories (COCO's format), got {path}",
    )
    require(bool(source["images"]), f"annotations_json must list at least one image, got none in {path}")
    return source


def _categories(source: dict[str, Any], report: Report) -> list[dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for category in source["categories"]:
        if not isinstance(category, dict) or not isinstance(category.get("id"), int):
            report.add(f"category {category!r}", "its id is not an integer", "category skipped")
        elif category["id"] in found:
            report.add(f"category {category['id']}", "the id is used twice", "category skipped")
        else:
            found[category["id"]] = category
    require(bool(found), f"annotations_json must name at least one category, got none in {report.source}")
    return [found[i] for i in sorted(found)]
