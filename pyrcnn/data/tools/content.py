"""The usable content of a data set with all its fields, image by image, for conversions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..coco import Source
from ..index import Objects
from ..values import Id


@dataclass(frozen=True)
class Item:
    """One image."""

    path: Path
    name: str  # relative to the folder of the images
    image_id: Id
    size: tuple[int, int]  # height, width, as read
    oriented: bool  # the boxes refer to the image after its EXIF orientation was applied
    entry: dict[str, Any]  # the image's other fields
    objects: Objects
    extras: list[dict[str, Any]]  # the other fields of each object


class Content:
    """The usable images of a data set.

    Attributes:
        folder: of the images.
        categories: as in COCO's format, with all their fields.
        others: the other fields of a COCO file, such as ``info``.
        count: the number of images.
    """

    def __init__(self, source: Source):
        self.folder, self.report = source.folder, source.report
        self.annotations, self.index = source.load(keep=True)
        of_category, others = self.annotations.others
        self.categories = [{**of_category[c["id"]], **c} for c in self.annotations.categories]
        self.others = {key: value for key, value in others.items() if key in ("info", "licenses")}
        self.count = len(self.index)
        self._places = {image_id: i for i, image_id in enumerate(self.annotations.images)}

    def __iter__(self) -> Iterator[Item]:
        return map(self.item, range(self.count))

    def item(self, position: int) -> Item:
        """Return image number ``position``."""
        index = self.index
        image_id, path = index.id(position), index.path(position)
        entry = self.annotations.images[image_id]
        start, end = self.annotations.table.bounds(self._places[image_id])
        extras = self.annotations.extras[start:end]  # type: ignore[index]
        height, width = index.sizes[position].tolist()
        others = {k: v for k, v in entry.items() if k not in ("id", "file_name", "height", "width")}
        return Item(path, os.path.relpath(path, self.folder), image_id, (height, width), bool(index.oriented[position]),
                    others, index.objects[position], extras)  # fmt: skip

    def labels(self, position: int) -> np.ndarray:
        """Return the labels of the objects of image number ``position``."""
        start, end = self.index.objects.bounds(position)
        return self.index.objects.labels[start:end].numpy()
