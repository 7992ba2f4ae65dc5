"""From COCO's lists to one record per picture, noting every fault on the way."""

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

THREADS = 8  # for checking and decoding pictures: Pillow releases the interpreter lock
_OVERHANG = 1.0  # pixels that a box may reach outside the picture (rounding) before its clipping is worth reporting


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


def joint_names(categories: Sequence[dict[str, Any]]) -> list[str]:
    """The keypoints' names: those of the category that has most."""
    return max(([str(k) for k in c.get("keypoints") or ()] for c in categories), key=len)


class _Unusable(Exception):
    """An annotation from which no box can be made; the message says why."""


class RecordReader:
    """Turns the file's lists into records, noting every fault."""

    def __init__(self, source: dict[str, Any], categories: Sequence[dict[str, Any]], report: Report):
        self.source, self.report = source, report
        self.label = {c["id"]: label for label, c in enumerate(categories)}
        self.joints = len(joint_names(categories))
        self.usable: list[dict[str, Any]] = []  # the annotations that became boxes, as given

    def records(self, folder: Path, check: bool) -> list[Record]:
        """One record per readable picture in ``folder``; ``check`` decodes each of them."""
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
                self.report.add(f"picture {folder / image['file_name']}", found.reason, f"picture skipped{also}")
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
            np.array(keypoints, dtype=np.float32).reshape(count, self.joints, 3) if self.joints else None,
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
            raise _Unusable(f"box {annotation['bbox']} lies outside the {width}x{height} picture")
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
