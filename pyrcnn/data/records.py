"""Turns COCO's lists into one record per image and reports every fault."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..images import ImageError
from ..images import check as check_image
from .report import Report

THREADS = 8  # that check and decode images: Pillow releases the interpreter lock
_OVERHANG = 1.0  # pixels; boxes that reach less far outside the image (rounding) are clipped without a report


@dataclass(frozen=True)
class Record:
    """One image: its file and its ground truth, boxes ``x1 y1 x2 y2`` in pixels."""

    path: Path
    image_id: int | str
    size: tuple[int, int]  # height, width, as read
    oriented: bool  # apply the file's EXIF orientation
    boxes: np.ndarray  # [G, 4] float32
    labels: np.ndarray  # [G] int64, index into the data set's classes
    crowd: np.ndarray  # [G] bool
    keypoints: np.ndarray | None  # [G, J, 3] float32


def keypoint_names(categories: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of the keypoints: those of the category that has most."""
    return max(([str(k) for k in c.get("keypoints") or ()] for c in categories), key=len)


class _Unusable(Exception):
    """An annotation from which no box can be made; the message says why."""


class RecordReader:
    """Turns the lists of an annotation file into records and reports every fault."""

    def __init__(self, source: dict[str, Any], categories: Sequence[dict[str, Any]], report: Report):
        self.source, self.report = source, report
        self.label = {c["id"]: label for label, c in enumerate(categories)}
        self.keypoints = len(keypoint_names(categories))
        self.usable: list[dict[str, Any]] = []  # the annotations that became boxes, as given

    def records(self, folder: Path, check: bool) -> list[Record]:
        """Return one record per readable image in ``folder``; ``check`` decodes each of them."""
        images = self._images()
        by_image = self._annotations(set(images))

        def probe(image: dict[str, Any]) -> Any:
            try:
                return check_image(folder / image["file_name"], check)
            except ImageError as error:
                return error

        with ThreadPoolExecutor(THREADS) as pool:
            probes = list(pool.map(probe, images.values()))
        records = []
        for (image_id, image), found in zip(images.items(), probes, strict=True):
            mine = by_image[image_id]
            if isinstance(found, ImageError):
                also = f" with its {len(mine)} annotations" if mine else ""
                self.report.add(f"image {folder / image['file_name']}", found.reason, f"image skipped{also}")
                continue
            size, oriented = self._size(image, *found)
            records.append(self._record(folder / image["file_name"], image_id, size, oriented, mine))
        return records

    def _images(self) -> dict[Any, dict[str, Any]]:
        images: dict[Any, dict[str, Any]] = {}
        for image in self.source["images"]:
            if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
                self.report.add(f"image entry {str(image)[:80]}", "it has no id or no file_name", "image skipped")
            elif image["id"] in images:
                what = f"the id {image['id']} is already that of {images[image['id']]['file_name']}"
                self.report.add(f"image {image['file_name']}", what, "image skipped")
            else:
                images[image["id"]] = image
        return images

    def _annotations(self, image_ids: set[Any]) -> dict[Any, list[dict[str, Any]]]:
        by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for position, annotation in enumerate(self.source["annotations"]):
            if not isinstance(annotation, dict):
                self.report.add(f"annotation number {position}", "it is not an object", "annotation skipped")
            elif annotation.get("image_id") not in image_ids:
                what = f"image {annotation.get('image_id')} is not in the file"
                self._skip(annotation, None, what)
            else:
                by_image[annotation["image_id"]].append(annotation)
        return by_image

    def _size(self, image: dict[str, Any], size: tuple[int, int], transposed: bool) -> tuple[tuple[int, int], bool]:
        """Return the (height, width) that the boxes refer to, and whether to apply the EXIF orientation.

        Boxes may have been drawn on the image as stored or as oriented; the size in the annotation file tells which.
        """
        stated = (image.get("height"), image.get("width"))
        turned = size[::-1] if transposed else size
        if stated == size and stated != turned:
            return size, False
        if None not in stated and stated != turned:
            what = f"the file is {turned[1]}x{turned[0]} pixels, the annotation file says {stated[1]}x{stated[0]}"
            self.report.add(f"image {image['file_name']}", what, "the file's size is used")
        return turned, True

    def _record(self, path: Path, image_id: Any, size: tuple[int, int], oriented: bool, annotations: Any) -> Record:
        boxes, labels, crowd, keypoints = [], [], [], []
        for annotation in annotations:
            try:
                box = self._box(annotation, path.name, size)
            except _Unusable as fault:
                self._skip(annotation, path.name, str(fault))
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
            np.array(keypoints, dtype=np.float32).reshape(count, self.keypoints, 3) if self.keypoints else None,
        )  # fmt: skip

    def _box(self, annotation: dict[str, Any], name: str, size: tuple[int, int]) -> list[float]:
        if annotation.get("category_id") not in self.label:
            raise _Unusable(f"category {annotation.get('category_id')} does not exist")
        try:
            x, y, w, h = (float(v) for v in annotation["bbox"])
        except (KeyError, TypeError, ValueError):
            raise _Unusable(f"bbox must be [x, y, width, height], got {annotation.get('bbox')!r}") from None
        if not np.isfinite([x, y, w, h]).all():
            raise _Unusable(f"box {annotation['bbox']} is not finite")
        if not (w > 0 and h > 0):
            raise _Unusable(f"box {annotation['bbox']} has no area")
        height, width = size
        box = [max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))]
        if not (box[2] > box[0] and box[3] > box[1]):
            raise _Unusable(f"box {annotation['bbox']} lies outside the {width}x{height} image")
        if max(-x, -y, x + w - width, y + h - height) > _OVERHANG:
            what = f"box {annotation['bbox']} reaches outside the {width}x{height} image"
            self.report.add(f"annotation {annotation.get('id')} of {name}", what, "box clipped")
        return box

    def _keypoints(self, annotation: dict[str, Any], name: str) -> np.ndarray:
        none = np.zeros((self.keypoints, 3), dtype=np.float32)  # visibility 0: not labelled
        given = annotation.get("keypoints")
        if not self.keypoints or not given:
            return none
        try:
            values = np.array(given, dtype=np.float32).reshape(self.keypoints, 3)
        except (TypeError, ValueError):
            what = f"keypoints must be {self.keypoints} times x, y, visibility"
            self.report.add(f"annotation {annotation.get('id')} of {name}", what, "keypoints ignored")
            return none
        return np.where(values[:, 2:] > 0, values, 0).astype(np.float32)

    def _skip(self, annotation: dict[str, Any], name: str | None, what: str) -> None:
        of = f" of {name}" if name else ""
        self.report.add(f"annotation {annotation.get('id')}{of}", what, "annotation skipped")
