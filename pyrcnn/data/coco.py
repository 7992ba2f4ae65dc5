"""Data sets in COCO's format: images in a folder, boxes and keypoints in one JSON file."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import require
from ..images import ImageError, read
from ..models.labels import match_classes
from ..structures import Targets
from ..texts import listed
from .annotations import AnnotationFile, Annotations, dictionary, keypoint_names
from .index import Index, ObjectsById
from .records import THREADS, Probe, RecordReader
from .report import Report

_log = logging.getLogger("pyrcnn.data")


class CocoDataset(Dataset[tuple[Tensor, Targets]]):
    """Images [3, H, W] uint8 with their :class:`~pyrcnn.Targets`, as :func:`coco` returns them.

    Attributes:
        classes: the name of each label.
        category_ids: the id of each label in the annotation file.
        keypoint_names: the names of the J keypoints; empty if there are none.
        report: what was wrong with files and annotations, and what was done about it.
        records: one :class:`~pyrcnn.data.index.Record` per image, made on demand.
        pixels: the decoded images if they are cached, else None.

    Example::

        train_data = data.coco("images", "annotations/train.json")
        image, targets = train_data[0]
        print(train_data.classes, train_data.report)
    """

    def __init__(self, records: Index, categories: Sequence[dict[str, Any]], report: Report,
                 cache: bool = False, pixels: list[Tensor] | None = None):  # fmt: skip
        self.records = records
        self.categories = list(categories)
        self.classes: list[str] = [c.get("name", str(c["id"])) for c in categories]
        self.category_ids: list[int | str] = [c["id"] for c in categories]
        self.report = report
        self.keypoint_names = keypoint_names(categories)
        self.pixels = pixels
        if cache:
            self._cache()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
        return self.image(index), self.targets(index)

    def image(self, index: int) -> Tensor:
        """Return image ``index`` as [3, H, W] uint8 RGB. Do not change it: it may be the cached copy."""
        return self._read(index) if self.pixels is None else self.pixels[index]

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
        boxes, labels, crowd, found = self.records.targets(self.records.position(index))
        keypoints = None
        if self.keypoint_names:
            shape = (len(boxes), len(self.keypoint_names), 3)
            labelled = any(values is not None for values in found)
            keypoints = torch.zeros(shape) if labelled else torch.zeros(()).expand(shape)  # visibility 0: not labelled
            for row, values in zip(keypoints, found, strict=True):
                if values is not None:
                    row[: len(values)] = torch.from_numpy(values)
        return Targets(boxes.clone(), labels, keypoints, crowd.clone())

    def _read(self, index: int) -> Tensor:
        i = self.records.position(index)
        return read(self.records.path(i), bool(self.records.oriented[i])).contiguous()

    def _cache(self) -> None:
        def attempt(index: int) -> Tensor | ImageError:
            try:
                return self._read(index)
            except ImageError as error:
                return error

        with ThreadPoolExecutor(THREADS) as pool:  # before the loader's workers fork, so that they share the memory
            found = list(pool.map(attempt, range(len(self.records))))
        for index, pixels in enumerate(found):
            if isinstance(pixels, ImageError):
                self.skip(index, pixels)
        self.records = self.records.select([i for i, pixels in enumerate(found) if isinstance(pixels, Tensor)])
        self.pixels = [pixels for pixels in found if isinstance(pixels, Tensor)]

    def skip(self, index: int, error: ImageError) -> None:
        """Note in the report, once, that image ``index`` cannot be decoded, and leave it out of :meth:`ground_truth`.

        Training and evaluation call it: :func:`coco` reads only the headers of most images.
        """
        record = self.records[index]
        if record.image_id not in self.report.unreadable:
            self.report.unreadable.add(record.image_id)
            count = len(self.report.unreadable)
            self.report.add(f"image {record.path}", error.reason, "image skipped")
            _log.warning("image %s: %s; image skipped (%d so far)", record.path, error.reason, count)

    def relabelled(self, category_ids: Sequence[int | str], classes: Sequence[str] | None = None) -> CocoDataset:
        """Deprecated name of :meth:`relabel`."""
        warnings.warn("CocoDataset.relabelled is deprecated, use relabel", DeprecationWarning, stacklevel=2)
        return self.relabel(category_ids, classes)

    def relabel(self, category_ids: Sequence[int | str], classes: Sequence[str] | None = None) -> CocoDataset:
        """Return a data set of the same images whose labels are positions in ``category_ids``.

        Args:
            category_ids: a model's category ids; every category of this data set that has objects must be among them.
            classes: their names, by which the categories are found; None to find them by their ids.

        Raises:
            pyrcnn.InputError: if a category of this data set is missing.
        """
        found = self.counterparts(category_ids, classes)
        missing = self.without_counterpart(found)
        require(not missing, f"category_ids must hold every category of the data set, got none for {listed(missing)}")
        table = np.array([-1 if label is None else label for label in found], dtype=np.int64)
        categories: list[dict[str, Any]] = [{"id": i} for i in category_ids]
        for category, label in zip(self.categories, found, strict=True):
            if label is not None:
                categories[label] = {**category, "id": category_ids[label]}
        for category, name in zip(categories, classes or (), strict=classes is not None):
            category["name"] = name
        return self._changed(self.records.relabel(table), categories, self.pixels)

    def counterparts(self, category_ids: Sequence[Any], classes: Sequence[str] | None = None) -> list[int | None]:
        """Return the position of each category in ``category_ids``, found by its name if there are ``classes``."""
        if classes is not None:
            return match_classes(self.classes, self.category_ids, classes, category_ids)
        position = {category: label for label, category in enumerate(category_ids)}
        return [position.get(category) for category in self.category_ids]

    def used_labels(self) -> list[int]:
        """Return the labels that have objects."""
        return self.records.objects.used_labels()

    def without_counterpart(self, found: Sequence[int | None]) -> list[str]:
        """Return the categories, as ``name (id)``, that have objects but None in ``found``, which has one per label."""
        return [f"{self.classes[i]} (id {self.category_ids[i]})" for i in self.used_labels() if found[i] is None]

    def select(self, indices: Sequence[int]) -> CocoDataset:
        """Return a data set of the images at ``indices``, with the same classes. Repeated ones get own ids."""
        pixels = None if self.pixels is None else [self.pixels[i] for i in indices]
        return self._changed(self.records.select(indices), self.categories, pixels)

    def without_keypoints(self) -> CocoDataset:
        """Return a data set of the same images and boxes."""
        categories = [{key: value for key, value in c.items() if key != "keypoints"} for c in self.categories]
        return self._changed(self.records, categories, self.pixels)

    def _changed(self, records: Index, categories: Sequence[dict[str, Any]],
                 pixels: list[Tensor] | None) -> CocoDataset:  # fmt: skip
        other = copy.copy(self)  # of the same class, which may be a user's
        CocoDataset.__init__(other, records, categories, self.report, pixels=pixels)
        return other

    def ground_truth(self) -> dict[str, Any]:
        """Return COCO's annotation dictionary of the usable images and annotations, for scoring.

        Boxes are as in the file, not clipped. Annotations are numbered from 1, because pycocotools takes an object
        with id 0 for an unmatched one.
        """
        known = self.annotations()
        return dictionary(self.categories, ((known.images[i], objects) for i, objects in known.objects.items()))

    def annotations(self) -> Annotations:
        """Return the annotations of the usable images, for scoring."""
        index = self.records
        usable = {image_id: i for i, image_id in enumerate(index.all_ids()) if image_id not in self.report.unreadable}
        sizes = index.sizes.tolist()
        images = {image_id: {"id": image_id, "file_name": index.path(i).name, "height": sizes[i][0],
                             "width": sizes[i][1]} for image_id, i in usable.items()}  # fmt: skip
        return Annotations(self.categories, images, ObjectsById(index.objects, usable), self.report)


def coco(
    images_dir: str | Path, annotations_json: str | Path, *, check: bool = True, cache: bool = False
) -> CocoDataset:
    """Return a data set in COCO's format; item ``i`` is (image [3, H, W] uint8 RGB, :class:`~pyrcnn.Targets`).

    Labels number the file's categories from 0, in the order of their ids. Ids may be numbers or texts. Faults are
    collected in ``dataset.report``, which is also logged as a warning: images that are missing, damaged or outside the
    folder are skipped, boxes that reach outside the image are clipped, and annotations without a box, with an empty
    box or with an unknown category are skipped. Numbers written as text are used; a missing ``area``, ``iscrowd`` or
    ``num_keypoints`` is computed.

    Args:
        images_dir: the folder of the images.
        annotations_json: the annotation file.
        check: look for truncated files; False reads only the headers. Most files are not decoded for this. Damage
            that only decoding finds is noted in the report when training or evaluation meet it; they skip the image.
        cache: keep the decoded images in memory.

    Raises:
        pyrcnn.InputError: if the folder does not exist, the file is not valid, or no usable category or image is left.

    Example::

        train_data = data.coco("images", "annotations/train.json")
        image, targets = train_data[0]
    """
    return source(images_dir, annotations_json, check=check).dataset(cache)


def source(images_dir: str | Path, annotations_json: str | Path, *, check: bool = True) -> Source:
    """Return the content of the file; see :func:`coco`."""
    folder, file = Path(images_dir), Path(annotations_json)
    require(folder.is_dir(), f"images_dir must be a folder, got {folder}")
    return Source(file, folder, Report(str(file)), "annotations_json", check)


@dataclass
class Source:
    """The files of a data set, not yet checked.

    Attributes:
        content: COCO's annotation dictionary, or the path of its JSON file.
        folder: the folder of the images.
        report: what was wrong so far.
        argument: the name that messages begin with.
        check: see :func:`coco`.
        probed: what :func:`~pyrcnn.data.records.probe` found of each ``file_name``, if the images were read already.
    """

    content: Any
    folder: Path
    report: Report
    argument: str
    check: bool = True
    probed: Mapping[str, Probe] | None = None

    def dataset(self, cache: bool = False) -> CocoDataset:
        """Return the data set, and log its report. Raises :class:`pyrcnn.InputError` if no image is usable."""
        annotations, index = self.load()
        if self.report:
            _log.warning("%s", self.report)
        return CocoDataset(index, annotations.categories, self.report, cache)

    def load(self, keep: bool = False) -> tuple[AnnotationFile, Index]:
        """Return the checked annotations and the usable images; ``keep``: see :class:`AnnotationFile`."""
        annotations = AnnotationFile(self.content, self.report, self.argument, keep)
        index = RecordReader(annotations).index(self.folder, self.check, self.probed)
        require(bool(index), f"{self.argument} must leave at least one usable image, got none in "
                             f"{self.report.source}: {self.report.brief()}")  # fmt: skip
        return annotations, index
