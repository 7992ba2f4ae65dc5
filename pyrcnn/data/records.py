"""Joins checked annotations with the image files: one record per image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..images import ImageError
from ..images import check as check_image
from .annotations import AnnotationFile, Object, Objects
from .values import Id, number, shown

THREADS = 8  # that check and decode images: Pillow releases the interpreter lock
Probe = tuple[tuple[int, int], bool] | ImageError  # (height, width) as stored, and whether its orientation swaps them
_OVERHANG = 1.0  # pixels; boxes that reach less far outside the image (rounding) are clipped without a report


@dataclass(frozen=True)
class Record:
    """One image: its file and its ground truth, boxes ``x1 y1 x2 y2`` in pixels."""

    path: Path
    image_id: Id
    size: tuple[int, int]  # height, width, as read
    oriented: bool  # apply the file's EXIF orientation
    boxes: np.ndarray  # [G, 4] float32, clipped to the image
    labels: np.ndarray  # [G] int64, index into the data set's classes
    crowd: np.ndarray  # [G] bool
    keypoints: tuple[np.ndarray | None, ...]  # G times [up to J, 3] float64; None if none is labelled
    objects: Objects  # as in the file, for scoring


class RecordReader:
    """Turns annotations into one record per readable image and reports every fault."""

    def __init__(self, annotations: AnnotationFile):
        self.annotations, self.report = annotations, annotations.report

    def records(self, folder: Path, check: bool, probed: Mapping[str, Probe] | None = None) -> list[Record]:
        """Return one record per readable image in ``folder``; ``probed`` is what :func:`probe` found before."""
        images = {i: image for i, image in self.annotations.images.items() if self._is_inside(image, folder)}
        names = [image["file_name"] for image in images.values()]
        probed = probe(folder, names, check) if probed is None else probed
        records = []
        for image_id, image in images.items():
            found = probed[image["file_name"]]
            mine = self.annotations.found[image_id]
            if isinstance(found, ImageError):
                also = f" with its {len(mine)} annotations" if mine else ""
                self.report.add(f"image {folder / image['file_name']}", found.reason, f"image skipped{also}")
                continue
            size, oriented = self._size(image, *found)
            records.append(self._record(folder / image["file_name"], image_id, size, oriented, mine))
        return records

    def _is_inside(self, image: dict[str, Any], folder: Path) -> bool:
        """Whether the entry names a file below the folder; the report says what is wrong otherwise."""
        name = image.get("file_name")
        fault = fault_of_name(name, folder)
        if fault:
            self.report.add(f"image {shown(name)}", fault, "image skipped")
        return not fault

    def _size(self, image: dict[str, Any], size: tuple[int, int], transposed: bool) -> tuple[tuple[int, int], bool]:
        """Return the (height, width) that the boxes refer to, and whether to apply the EXIF orientation.

        Boxes may have been drawn on the image as stored or as oriented; the size in the annotation file tells which.
        """
        stated = _stated_size(image)
        turned = upright((size, transposed))
        if stated == size and stated != turned:
            return size, False
        if None not in stated and stated != turned:
            what = f"the file is {turned[1]}x{turned[0]} pixels, the annotation file says {stated[1]}x{stated[0]}"
            self.report.add(f"image {image['file_name']}", what, "the file's size is used")
        return turned, True

    def _record(self, path: Path, image_id: Id, size: tuple[int, int], oriented: bool,
                objects: list[Object]) -> Record:  # fmt: skip
        clipped = [(box, found) for found in objects if (box := self._clipped(found, size)) is not None]
        return Record(
            path, image_id, size, oriented,
            np.array([box for box, _ in clipped], dtype=np.float32).reshape(-1, 4),
            np.array([found.label for _, found in clipped], dtype=np.int64),
            np.array([found.crowd for _, found in clipped], dtype=bool),
            tuple(found.keypoints for _, found in clipped),
            Objects.of(objects),
        )  # fmt: skip

    def _clipped(self, found: Object, size: tuple[int, int]) -> list[float] | None:
        """Return the part x1, y1, x2, y2 of a box inside the image; None if there is none to train on."""
        x, y, w, h = found.box
        height, width = size
        box = [max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))]
        x1, y1, x2, y2 = np.array(box, dtype=np.float32)  # in which sides of a millionth of a pixel vanish
        given = "[" + ", ".join(f"{v:g}" for v in found.box) + "]"
        if not (x2 > x1 and y2 > y1):
            what = f"box {given} lies outside the {width}x{height} image"
            self.report.add(found.name, what, "scored, but not trained on")
            return None
        if max(-x, -y, x + w - width, y + h - height) > _OVERHANG:
            what = f"box {given} reaches outside the {width}x{height} image"
            self.report.add(found.name, what, "box clipped")
        return box


def probe(folder: Path, names: Iterable[str], whole: bool) -> dict[str, Probe]:
    """Return (size, transposed) of each image file below ``folder``, or why it cannot be read."""

    def attempt(name: str) -> Probe:
        try:
            return check_image(folder / name, whole)
        except ImageError as error:
            return error

    names = list(dict.fromkeys(names))
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(names, pool.map(attempt, names), strict=True))


def upright(found: tuple[tuple[int, int], bool]) -> tuple[int, int]:
    """Return (height, width) of an image after its EXIF orientation was applied."""
    size, transposed = found
    return size[::-1] if transposed else size


def with_own_ids(records: Sequence[Record]) -> list[Record]:
    """Return the records, numbered from 1 if two of them have the same image id."""
    if len({record.image_id for record in records}) == len(records):
        return list(records)
    return [replace(record, image_id=number) for number, record in enumerate(records, start=1)]


def fault_of_name(name: Any, folder: Path) -> str | None:
    """Return what is wrong with a ``file_name``, None if it names a file below ``folder``, the images'."""
    if not isinstance(name, str) or not name.strip():
        return "it has no file_name"
    try:
        os.fsencode(name)
    except UnicodeError:
        return "the file_name is not a text that a file can have"
    if "\0" in name:
        return "the file_name is not a text that a file can have"
    root = os.path.abspath(folder)
    inside = os.path.abspath(os.path.join(root, name)).startswith(os.path.join(root, ""))  # links are followed later
    return None if inside else "the file_name leads out of the folder of the images"


def _stated_size(image: dict[str, Any]) -> tuple[int | None, int | None]:
    """Return the height and width that the annotation file states; None for what is no size."""
    sides = [number(image.get(key)) for key in ("height", "width")]
    height, width = (int(side) if side is not None and 0 < side < 1e9 else None for side in sides)
    return height, width
