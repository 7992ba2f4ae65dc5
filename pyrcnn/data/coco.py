"""Data sets in COCO's format: pictures in a folder, boxes (and keypoints) in one JSON file."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import InputError, require
from ..structures import Targets
from . import pictures
from .report import Report

_log = logging.getLogger("pyrcnn.data")
_OVERHANG = 1.0  # pixels that a box may reach outside the picture (rounding) before its clipping is worth reporting
_THREADS = 8  # for checking and decoding: Pillow releases the interpreter lock


@dataclass(frozen=True)
class Record:
    """One picture's entry: where it is and what is in it (boxes ``x1 y1 x2 y2`` in its pixels)."""

    path: Path
    image_id: int | str
    size: tuple[int, int]  # height, width, as read
    oriented: bool  # apply the file's EXIF orientation
    boxes: np.ndarray  # [K, 4] float32
    labels: np.ndarray  # [K] int64, index into the data set's classes
    crowd: np.ndarray  # [K] bool
    keypoints: np.ndarray | None  # [K, J, 3] float32


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
        self.joints = _joints(categories)
        self._annotations = annotations
        self._pixels: list[Tensor] | None = None
        if cache:
            with ThreadPoolExecutor(_THREADS) as pool:  # decoded once, before workers fork and share the memory
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
            return pictures.read(record.path, record.oriented)
        except pictures.PictureError as error:
            raise InputError(f"picture {record.path} could be read before and cannot now: {error}") from None

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
    picture once to find truncated files (False: only headers are read); ``cache`` keeps all pictures in memory, decoded.

    Raises :class:`~pyrcnn.InputError` when nothing is left to work with: no such folder, no JSON, no category, no
    readable picture.
    """
    images_dir, source_file = Path(images_dir), Path(annotations_json)
    require(images_dir.is_dir(), f"images_dir must be a folder, got {images_dir}")
    source = _read_json(source_file)
    report = Report(str(source_file))
    categories = _categories(source, report)
    reader = _Reader(source, categories, report)
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


def _joints(categories: Sequence[dict[str, Any]]) -> list[str]:
    return max(([str(k) for k in c.get("keypoints") or ()] for c in categories), key=len)


class _Reader:
    """Turns the file's lists into records, noting every fault."""

    def __init__(self, source: dict[str, Any], categories: Sequence[dict[str, Any]], report: Report):
        self.source, self.report = source, report
        self.label = {c["id"]: label for label, c in enumerate(categories)}
        self.joints = len(_joints(categories))
        self.usable: list[dict[str, Any]] = []  # the annotations that became boxes, as given

    def records(self, folder: Path, check: bool) -> list[Record]:
        images = self._images()
        by_image = self._annotations(set(images))

        def probe(image: dict[str, Any]) -> Any:
            try:
                return pictures.check(folder / image["file_name"], check)
            except pictures.PictureError as error:
                return error

        with ThreadPoolExecutor(_THREADS) as pool:
            probes = list(pool.map(probe, images.values()))
        records = []
        for (image_id, image), found in zip(images.items(), probes, strict=True):
            mine = by_image[image_id]
            if isinstance(found, pictures.PictureError):
                also = f" with its {len(mine)} annotations" if mine else ""
                self.report.add(f"picture {folder / image['file_name']}", str(found), f"picture skipped{also}")
                continue
            size, oriented = self._size(image, *found)
            records.append(self._record(folder / image["file_name"], image_id, size, oriented, mine))
        return records

    def _images(self) -> dict[Any, dict[str, Any]]:
        images: dict[Any, dict[str, Any]] = {}
        for image in self.source["images"]:
            if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
                self.report.add(f"picture entry {str(image)[:80]}", "it lacks id or file_name", "picture skipped")
            elif image["id"] in images:
                what = f"the id {image['id']} belongs to {images[image['id']]['file_name']} already"
                self.report.add(f"picture {image['file_name']}", what, "picture skipped")
            else:
                images[image["id"]] = image
        return images

    def _annotations(self, image_ids: set[Any]) -> dict[Any, list[dict[str, Any]]]:
        by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for position, annotation in enumerate(self.source["annotations"]):
            if not isinstance(annotation, dict):
                self.report.add(f"annotation number {position}", "it is not an object", "annotation skipped")
            elif annotation.get("image_id") not in image_ids:
                what = f"picture {annotation.get('image_id')} is not in the file"
                self._skip(annotation, None, what)
            else:
                by_image[annotation["image_id"]].append(annotation)
        return by_image

    def _size(self, image: dict[str, Any], size: tuple[int, int], transposed: bool) -> tuple[tuple[int, int], bool]:
        """The size that boxes refer to, and whether to turn the picture as EXIF says.

        The boxes of a turned picture may have been drawn on either view; the size in the annotation file tells which.
        """
        stated = (image.get("height"), image.get("width"))
        turned = size[::-1] if transposed else size
        if stated == size and stated != turned:
            return size, False
        if None not in stated and stated != turned:
            what = f"the file is {turned[1]}x{turned[0]} pixels, the annotation file says {stated[1]}x{stated[0]}"
            self.report.add(f"picture {image['file_name']}", what, "the file's size is used")
        return turned, True

    def _record(self, path: Path, image_id: Any, size: tuple[int, int], oriented: bool, annotations: Any) -> Record:
        boxes, labels, crowd, keypoints = [], [], [], []
        for annotation in annotations:
            box = self._box(annotation, path.name, size)
            if box is None:
                continue
            self.usable.append(annotation)
            boxes.append(box)
            labels.append(self.label[annotation["category_id"]])
            crowd.append(bool(annotation.get("iscrowd", 0)))
            keypoints.append(self._keypoints(annotation, path.name))
        count = len(boxes)
        return Record(
            path, image_id, size, oriented,
            np.array(boxes, dtype=np.float32).reshape(count, 4),
            np.array(labels, dtype=np.int64),
            np.array(crowd, dtype=bool),
            np.array(keypoints, dtype=np.float32).reshape(count, self.joints, 3) if self.joints else None,
        )  # fmt: skip

    def _box(self, annotation: dict[str, Any], name: str, size: tuple[int, int]) -> list[float] | None:
        if annotation.get("category_id") not in self.label:
            return self._skip(annotation, name, f"category {annotation.get('category_id')} does not exist")
        try:
            x, y, w, h = (float(v) for v in annotation["bbox"])
        except (KeyError, TypeError, ValueError):
            return self._skip(annotation, name, f"bbox must be [x, y, width, height], got {annotation.get('bbox')!r}")
        if not np.isfinite([x, y, w, h]).all():
            return self._skip(annotation, name, f"box {annotation['bbox']} is not finite")
        if not (w > 0 and h > 0):
            return self._skip(annotation, name, f"box {annotation['bbox']} has no area")
        height, width = size
        box = [max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))]
        if not (box[2] > box[0] and box[3] > box[1]):
            return self._skip(annotation, name, f"box {annotation['bbox']} lies outside the {width}x{height} picture")
        if max(-x, -y, x + w - width, y + h - height) > _OVERHANG:
            what = f"box {annotation['bbox']} reaches outside the {width}x{height} picture"
            self.report.add(f"annotation {annotation.get('id')} of {name}", what, "box clipped")
        return box

    def _keypoints(self, annotation: dict[str, Any], name: str) -> np.ndarray:
        none = np.zeros((self.joints, 3), dtype=np.float32)  # visibility 0: not labelled
        given = annotation.get("keypoints")
        if not self.joints or not given:
            return none
        try:
            values = np.array(given, dtype=np.float32).reshape(self.joints, 3)
        except (TypeError, ValueError):
            what = f"keypoints must be {self.joints} times x, y, visibility"
            self.report.add(f"annotation {annotation.get('id')} of {name}", what, "keypoints ignored")
            return none
        return np.where(values[:, 2:] > 0, values, 0).astype(np.float32)

    def _skip(self, annotation: dict[str, Any], name: str | None, what: str) -> None:
        of = f" of {name}" if name else ""
        self.report.add(f"annotation {annotation.get('id')}{of}", what, "annotation skipped")
