"""Joins checked annotations with the image files."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..images import ImageError
from ..images import check as check_image
from .annotations import AnnotationFile
from .index import Index
from .values import number, shown

THREADS = 8  # that check and decode images: Pillow releases the interpreter lock
Probe = tuple[tuple[int, int], bool] | ImageError  # (height, width) as stored, and whether its orientation swaps them
_ROWS = 1 << 16  # boxes that are clipped at a time
_RUN = 64  # images that a thread checks at a time
_Problem = tuple[str, str, str]  # where, what, action
_PLAIN = re.compile(r"(\w[\w. +-]*/)*\w[\w. +-]*", re.ASCII)  # names that lead nowhere else
_OVERHANG = 1.0  # pixels; boxes that reach less far outside the image (rounding) are clipped without a report


class RecordReader:
    """Joins annotations with the readable images and reports every fault."""

    def __init__(self, annotations: AnnotationFile):
        self.annotations, self.report = annotations, annotations.report

    def index(self, folder: Path, check: bool, probed: Mapping[str, Probe] | None = None) -> Index:
        """Return the readable images in ``folder``; ``probed`` is what :func:`probe` found before."""
        root = os.path.abspath(folder)
        images = list(self.annotations.images.items())
        inside = [self._is_inside(image, root) for _, image in images]
        names = [image.get("file_name") for (_, image), good in zip(images, inside, strict=True) if good]
        probed = probe(folder, names, check) if probed is None else probed
        table = self.annotations.table
        sizes, oriented, said = np.zeros((len(images), 2), dtype=np.int32), np.zeros(len(images), dtype=bool), {}
        for position, ((_, image), good) in enumerate(zip(images, inside, strict=True)):
            if good:
                found = probed[image.get("file_name")]
                if isinstance(found, ImageError):
                    start, end = table.bounds(position)
                    also = f" with its {end - start} annotations" if end > start else ""
                    where = f"image {os.path.join(folder, image.get('file_name'))}"
                    said[position] = [(where, found.reason, f"image skipped{also}")]
                else:
                    sizes[position], oriented[position], problem = self._size(image, *found)
                    if problem:
                        said[position] = [problem]
        clipped, learnt = self._clip(sizes, said)
        for position in sorted(said):
            for problem in said[position]:
                self.report.add(*problem)
        usable = np.flatnonzero(sizes[:, 0])
        paths = [os.path.join(folder, images[i][1].get("file_name")) for i in usable.tolist()]
        if len(usable) < len(images):
            rows = table.rows_of(usable)
            table, clipped, learnt = table.select(usable), clipped[rows], learnt[rows]
        return Index.of(paths, [images[i][0] for i in usable.tolist()], sizes[usable], oriented[usable], table,
                        clipped, learnt)  # fmt: skip

    def _is_inside(self, image: Any, root: str) -> bool:
        """Whether the entry names a file below the folder; the report says what is wrong otherwise."""
        name = image.get("file_name")
        fault = fault_of_name(name, root)
        if fault:
            self.report.add(f"image {shown(name)}", fault, "image skipped")
        return not fault

    def _size(self, image: Any, size: tuple[int, int],
              transposed: bool) -> tuple[tuple[int, int], bool, _Problem | None]:  # fmt: skip
        """Return the (height, width) that the boxes refer to, whether to apply the EXIF orientation, and a problem.

        Boxes may have been drawn on the image as stored or as oriented; the size in the annotation file tells which.
        """
        stated = _stated_size(image)
        turned = upright((size, transposed))
        if stated == size and stated != turned:
            return size, False, None
        if None not in stated and stated != turned:
            what = f"the file is {turned[1]}x{turned[0]} pixels, the annotation file says {stated[1]}x{stated[0]}"
            return turned, True, (f"image {image.get('file_name')}", what, "the file's size is used")
        return turned, True, None

    def _clip(self, sizes: np.ndarray, said: dict[int, list[_Problem]]) -> tuple[np.ndarray, np.ndarray]:
        """Return the parts x1, y1, x2, y2 [N, 4] of boxes inside their images, and whether there is any to learn from.

        Objects of images without a size are not looked at; ``said`` gets the problems of each image.
        """
        table = self.annotations.table
        images = np.repeat(np.arange(len(sizes), dtype=np.int32), np.diff(table.starts.numpy()))
        clipped, learnt = np.zeros((len(images), 4), dtype=np.float32), np.zeros(len(images), dtype=bool)
        for start in range(0, len(images), _ROWS):
            rows = slice(start, start + _ROWS)
            boxes, limit = table.boxes[rows].numpy(), sizes[images[rows], ::-1]
            low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
            clipped[rows, :2] = low.clip(min=0)
            clipped[rows, 2:] = np.minimum(high, limit)
            # In float32, sides of a millionth of a pixel vanish.
            learnt[rows] = (clipped[rows, 2:] > clipped[rows, :2]).all(axis=1)
            over = np.maximum(-low, high - limit).max(axis=1)
            for i in np.flatnonzero((~learnt[rows] | (over > _OVERHANG)) & (limit[:, 0] > 0)).tolist():
                image, row = int(images[start + i]), start + i
                given = "[" + ", ".join(f"{v:g}" for v in boxes[i]) + "]"
                size = f"{limit[i, 0]}x{limit[i, 1]}"
                fault = (f"box {given} reaches outside the {size} image", "box clipped") if learnt[row] else (
                    f"box {given} lies outside the {size} image", "scored, but not trained on")  # fmt: skip
                said.setdefault(image, []).append((self.annotations.name_of(row), *fault))
        return clipped, learnt


def probe(folder: Path, names: Iterable[str], whole: bool) -> dict[str, Probe]:
    """Return (size, transposed) of each image file below ``folder``, or why it cannot be read."""

    def attempt(name: str) -> Probe:
        try:
            return check_image(os.path.join(folder, name), whole)
        except ImageError as error:
            return error

    names = list(dict.fromkeys(names))
    runs = [names[i : i + _RUN] for i in range(0, len(names), _RUN)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda run: [attempt(name) for name in run], runs)
        return dict(zip(names, itertools.chain.from_iterable(found), strict=True))


def upright(found: tuple[tuple[int, int], bool]) -> tuple[int, int]:
    """Return (height, width) of an image after its EXIF orientation was applied."""
    size, transposed = found
    return size[::-1] if transposed else size


def fault_of_name(name: Any, root: str) -> str | None:
    """Return what is wrong with a ``file_name``, None if it names a file below ``root``, an absolute path."""
    if not isinstance(name, str) or not name.strip():
        return "it has no file_name"
    if _PLAIN.fullmatch(name):
        return None
    try:
        os.fsencode(name)
    except UnicodeError:
        return "the file_name is not a text that a file can have"
    if "\0" in name:
        return "the file_name is not a text that a file can have"
    inside = os.path.abspath(os.path.join(root, name)).startswith(os.path.join(root, ""))  # links are followed later
    return None if inside else "the file_name leads out of the folder of the images"


def _stated_size(image: Any) -> tuple[int | None, int | None]:
    """Return the height and width that the annotation file states; None for what is no size."""
    sides = [number(image.get(key)) for key in ("height", "width")]
    height, width = (int(side) if side is not None and 0 < side < 1e9 else None for side in sides)
    return height, width
