"""The one way from COCO's annotation format to checked values, for training, evaluation and result files alike.

A value is used where its meaning is certain, whatever JSON type it has. Otherwise its entry is skipped with a line in
the report.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..errors import require
from ..models.labels import listed
from .report import Report
from .segmentation import extent
from .values import FARTHEST, SMALLEST, Id, find, flag, identity, in_order, number, numbers, shown

MOST_KEYPOINTS = 1000  # of an object
LISTS = ("images", "annotations", "categories")


class Unusable(Exception):
    """An entry whose meaning is not certain; the message says why."""


class Object(NamedTuple):
    """One checked annotation. Its box is as in the file: it may reach outside the image."""

    name: str  # what the report calls it
    box: list[float]  # x, y, width, height
    label: int
    area: float  # in pixels
    crowd: bool
    keypoints: np.ndarray | None  # [J of the category, 3] float64; None if none is labelled


@dataclass(frozen=True)
class Objects:
    """The objects of one image as arrays, which take less memory than a list of :class:`Object`."""

    boxes: np.ndarray  # [G, 4] float64 x, y, width, height
    labels: np.ndarray  # [G] int64
    areas: np.ndarray  # [G] float64
    crowd: np.ndarray  # [G] bool
    keypoints: tuple[np.ndarray | None, ...]

    @classmethod
    def of(cls, objects: Sequence[Object]) -> Objects:
        """Return the arrays of a list of objects."""
        return cls(
            np.array([o.box for o in objects], dtype=np.float64).reshape(-1, 4),
            np.array([o.label for o in objects], dtype=np.int64),
            np.array([o.area for o in objects], dtype=np.float64),
            np.array([o.crowd for o in objects], dtype=bool),
            tuple(o.keypoints for o in objects),
        )

    def __iter__(self) -> Iterator[Object]:
        columns = (self.boxes.tolist(), self.labels.tolist(), self.areas.tolist(), self.crowd.tolist(), self.keypoints)
        return (Object("", *values) for values in zip(*columns, strict=True))


class Annotations:
    """Checked annotations: categories, images and their objects.

    Attributes:
        categories: the usable categories in the order of their ids, each with ``id``, ``name`` (unless the file has
            none) and ``keypoints`` (the names; only where there are keypoints).
        images: id → the image's entry as given.
        objects: image id → its objects; labels are positions in ``categories``.
        labels: category id → label.
        keypoint_counts: keypoints per object of each category.
        report: what was wrong, and what was done about it.
    """

    def __init__(self, categories: list[dict[str, Any]], images: dict[Id, dict[str, Any]],
                 objects: Mapping[Id, Iterable[Object]], report: Report):  # fmt: skip
        self.categories, self.images, self.objects, self.report = categories, images, objects, report
        self.labels: dict[Id, int] = {category["id"]: label for label, category in enumerate(categories)}
        self.keypoint_counts = [len(category.get("keypoints", ())) for category in categories]


class AnnotationFile(Annotations):
    """The checked content of an annotation file, as JSON gives it.

    Raises :class:`pyrcnn.InputError`, which begins with ``name``, if it is none or no category or image is usable.
    """

    def __init__(self, source: Any, report: Report, name: str = "annotations"):
        good = isinstance(source, Mapping) and all(isinstance(source.get(k), list) for k in LISTS)
        require(good, f"{name} must hold the lists images, annotations and categories (COCO's format), "
                      f"got {report.source}")  # fmt: skip
        require(bool(source["images"]), f"{name} must list at least one image, got none in {report.source}")
        categories = _categories(source["categories"], report)
        require(
            bool(categories),
            f"{name} must name at least one category, got none in {report.source}: {report.brief()}",
        )
        images = _by_id(source["images"], "image", "file_name", report)
        require(
            bool(images),
            f"{name} must list at least one usable image, got none in {report.source}: {report.brief()}",
        )
        self.found: dict[Id, list[Object]] = {image_id: [] for image_id in images}
        super().__init__(categories, images, self.found, report)
        self._count_keypoints(source["annotations"])
        for position, annotation in enumerate(source["annotations"]):
            self._add(annotation, position)
        if not source["annotations"]:
            report.add("annotations", "the list is empty, so no image has a box", "noted")

    def _count_keypoints(self, annotations: list[Any]) -> None:
        """Number the keypoints of categories that do not name them: there are as many as most objects have."""
        counts = self.keypoint_counts
        seen: list[Counter[int]] = [Counter() for _ in counts]
        for annotation in annotations:
            given = annotation.get("keypoints") if isinstance(annotation, dict) else None
            if isinstance(given, list) and given:
                label = self._label(annotation)
                length = len(given) if isinstance(given[0], list) else len(given) / 3
                if label is not None and not counts[label] and length == int(length) <= MOST_KEYPOINTS:
                    seen[label][int(length)] += 1
        for label, lengths in enumerate(seen):
            if lengths:
                counts[label] = lengths.most_common(1)[0][0]
                self.categories[label]["keypoints"] = [f"keypoint {i}" for i in range(1, counts[label] + 1)]

    def _add(self, annotation: Any, position: int) -> None:
        if not isinstance(annotation, dict):
            self.report.add(f"annotation number {position}", "it is not an object", "annotation skipped")
            return
        given_id = identity(annotation.get("id"))
        name = f"annotation number {position}" if given_id is None else f"annotation {str(given_id)[:60]}"
        image_id = find(annotation.get("image_id"), self.images)
        if image_id is None:
            what = f"image {shown(annotation.get('image_id'))} is not in the file"
            self.report.add(name, what, "annotation skipped")
            return
        file_name = self.images[image_id].get("file_name")
        name += f" of {file_name[-100:]}" if isinstance(file_name, str) else f" of image {str(image_id)[:60]}"
        try:
            label = self._label(annotation)
            if label is None:
                raise Unusable(f"category {shown(annotation.get('category_id'))} does not exist")
            crowd = flag(annotation.get("iscrowd"))
            if crowd is None:
                raise Unusable(f"iscrowd must be 0 or 1, got {shown(annotation['iscrowd'])}")
            box = box_of(annotation)
            if not (box[2] >= SMALLEST and box[3] >= SMALLEST):
                raise Unusable(f"box {shown(annotation.get('bbox'))} has no area")
        except Unusable as fault:
            self.report.add(name, str(fault), "annotation skipped")
            return
        area, keypoints = self._area(annotation, box, name), self._keypoints(annotation, label, name)
        self.found[image_id].append(Object(name, box, label, area, crowd, keypoints))

    def _label(self, annotation: dict[str, Any]) -> int | None:
        return self.labels.get(find(annotation.get("category_id"), self.labels))  # type: ignore[arg-type]

    def _area(self, annotation: dict[str, Any], box: Sequence[float], name: str) -> float:
        given = annotation.get("area")
        area = number(given)
        if area is not None and 0 < area <= FARTHEST**2:
            return area
        if given is not None:
            what = f"area must be a positive number, got {shown(given)}"
            self.report.add(name, what, "area of its segmentation or box used")
        drawn = extent(annotation.get("segmentation"))
        return drawn[0] if drawn and drawn[0] > 0 else box[2] * box[3]

    def _keypoints(self, annotation: dict[str, Any], label: int, name: str) -> np.ndarray | None:
        """Return keypoints [J, 3]; None if none is labelled."""
        given, count = annotation.get("keypoints"), self.keypoint_counts[label]
        if given is None or given == []:
            return None
        try:
            values = keypoints_of(given, count)
        except Unusable as fault:
            self.report.add(name, str(fault), "keypoints ignored")
            return None
        values[values[:, 2] <= 0] = 0
        return values if values.any() else None


def box_of(entry: Mapping[str, Any]) -> list[float]:
    """Return x, y, width and height of an annotation or a detection, from its segmentation if it has no ``bbox``.

    Raises :class:`Unusable` unless they are four finite numbers in the range of pixels.
    """
    given = entry.get("bbox")
    if given is None and (drawn := extent(entry.get("segmentation"))):
        return drawn[1]
    values: list[Any] = [number(v) for v in given] if isinstance(given, list | tuple | np.ndarray) else []
    if len(values) != 4 or None in values:
        raise Unusable(f"bbox must be [x, y, width, height], got {shown(given)}")
    if not all(map(math.isfinite, values)):
        raise Unusable(f"box {shown(given)} is not finite")
    if max(map(abs, values)) > FARTHEST:
        raise Unusable(f"box {shown(given)} lies farther than {FARTHEST:.0f} pixels")
    return values


def keypoints_of(given: Any, count: int) -> np.ndarray:
    """Return keypoints [count, 3] float64 from COCO's list, flat or of triples; :class:`Unusable` for anything else."""
    if isinstance(given, list | tuple) and given and all(isinstance(v, list | tuple) and len(v) == 3 for v in given):
        given = [v for triple in given for v in triple]
    values = numbers(given, 3 * count)
    if values is None or not count:
        got = f"{len(given)} values" if isinstance(given, list) and len(given) != 3 * count else shown(given)
        raise Unusable(f"keypoints must be {count} times x, y, visibility, got {got}")
    array = np.array(values).reshape(count, 3)
    if np.abs(array).max() > FARTHEST:
        raise Unusable(f"keypoints lie farther than {FARTHEST:.0f} pixels")
    return array


def keypoint_names(categories: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the keypoints: those of the category that has most."""
    return max((list(c.get("keypoints", ())) for c in categories), key=len, default=[])


def dictionary(
    categories: Sequence[dict[str, Any]], images: Iterable[tuple[dict[str, Any], Iterable[Object]]]
) -> dict[str, Any]:
    """Return COCO's annotation dictionary of images with their objects.

    The annotations are numbered from 1, because pycocotools takes an object with id 0 for an unmatched one.
    """
    none = [[0.0] * (3 * len(category.get("keypoints", ()))) for category in categories]  # shared: they may be long
    image_entries: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for image, objects in images:
        image_entries.append(image)
        for found in objects:
            entry = {
                "id": len(entries) + 1, "image_id": image["id"], "category_id": categories[found.label]["id"],
                "bbox": found.box, "area": found.area, "iscrowd": int(found.crowd),
            }  # fmt: skip
            if none[found.label]:
                given = found.keypoints
                entry["keypoints"] = none[found.label] if given is None else given.reshape(-1).tolist()
                entry["num_keypoints"] = 0 if given is None else int((given[:, 2] > 0).sum())
            entries.append(entry)
    return {"info": {}, "images": image_entries, "annotations": entries, "categories": list(categories)}


def _categories(entries: list[Any], report: Report) -> list[dict[str, Any]]:
    found = _by_id(entries, "category", "name", report)
    return [_category(i, found[i], report) for i in in_order(found)]


def _by_id(entries: list[Any], kind: str, name: str, report: Report) -> dict[Id, dict[str, Any]]:
    """Return entries by their ids. An id that entries of several names have tells nothing: all of them are skipped."""
    found: dict[Id, list[dict[str, Any]]] = {}
    for entry in entries:
        entry_id = identity(entry.get("id")) if isinstance(entry, dict) else None
        if entry_id is None:
            report.add(f"{kind} entry {shown(entry)}", "its id must be an integer or a text", f"{kind} skipped")
        else:
            found.setdefault(entry_id, []).append(entry)
    for entry_id, same in list(found.items()):
        names = list(dict.fromkeys(shown(entry.get(name)) for entry in same))
        if len(names) > 1:
            report.add(f"{kind} {shown(entry_id)}", f"the id is that of {listed(names)}", f"{kind} skipped")
            del found[entry_id]
    return {entry_id: same[0] for entry_id, same in found.items()}


def _category(category_id: Id, entry: dict[str, Any], report: Report) -> dict[str, Any]:
    where = f"category {shown(category_id)}"
    category: dict[str, Any] = {"id": category_id}
    name = entry.get("name")
    if isinstance(name, str | int | float) and not isinstance(name, bool):
        category["name"] = str(name)
    elif name is not None:
        report.add(where, f"its name must be a text, got {shown(name)}", "called by its id")
    joints = entry.get("keypoints")
    if isinstance(joints, list) and len(joints) <= MOST_KEYPOINTS and all(isinstance(j, str | int) for j in joints):
        category |= {"keypoints": [str(joint) for joint in joints]} if joints else {}
    elif joints is not None:
        what = f"keypoints must be a list of at most {MOST_KEYPOINTS} names, got {shown(joints)}"
        report.add(where, what, "names of keypoints ignored")
    return category
