"""The one way from COCO's annotation format to checked values, for training, evaluation and result files alike.

A value is used where its meaning is certain, whatever JSON type it has. Otherwise its entry is skipped with a line in
the report.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import needing, require
from ..texts import listed
from .columns import MOST_KEYPOINTS, Annotation, Columns, Unusable, flat_keypoints
from .index import Object, Objects, ObjectsById, ObjectTable, ranges
from .json_files import Event, Other, Start, events, events_of
from .report import Report
from .values import FARTHEST, Id, find, identity, in_order, numbers, shown

with needing("msgspec", "reading data sets"):
    import msgspec

LISTS = ("images", "annotations", "categories")
_OF_CATEGORY = ("id", "name", "keypoints")
_OF_IMAGE = ("id", "file_name", "height", "width")  # what is kept of an image's entry


class _Image(msgspec.Struct, gc=False):
    """An image whose values have the usual types, as msgspec reads it."""

    id: int
    file_name: str
    height: int | float | None = None
    width: int | float | None = None

    def get(self, key: str, default: Any = None) -> Any:
        """Return a field, ``default`` if there is none, as a dictionary does."""
        value = getattr(self, key, None)
        return default if value is None else value


class Annotations:
    """Checked annotations: categories, images and their objects.

    Attributes:
        categories: the usable categories in the order of their ids, each with ``id``, ``name`` (unless the file has
            none) and ``keypoints`` (the names; only where there are keypoints).
        images: id → the image's entry; ``get`` returns its fields.
        objects: image id → its objects; labels are positions in ``categories``.
        labels: category id → label.
        keypoint_counts: keypoints per object of each category.
        report: what was wrong, and what was done about it.
    """

    def __init__(self, categories: list[dict[str, Any]], images: dict[Id, Any],
                 objects: Mapping[Id, Objects], report: Report):  # fmt: skip
        self.categories, self.images, self.objects, self.report = categories, images, objects, report
        self.labels: dict[Id, int] = {category["id"]: label for label, category in enumerate(categories)}
        self.keypoint_counts = [len(category.get("keypoints", ())) for category in categories]


class AnnotationFile(Annotations):
    """The checked content of an annotation file.

    Args:
        source: the path of a JSON file, which is read in blocks, or its content as JSON gives it.
        report: gets the problems.
        name: the argument with which messages begin.
        keep: keep all fields of images and annotations, for conversions.

    Attributes:
        table: the objects, grouped by image in the order of ``images``.
        extras: if ``keep``, the other fields of each object.
        others: if ``keep``, the other fields of the categories by their ids, and of the file (``info`` …).

    Raises :class:`pyrcnn.InputError` if it is no annotation file or no category or image is usable.
    """

    table: ObjectTable

    def __init__(self, source: Any, report: Report, name: str = "annotations", keep: bool = False):
        if isinstance(source, os.PathLike):
            kinds = {"images": None if keep else _Image, "annotations": None if keep else Annotation,
                     "categories": None}  # fmt: skip
            found = _Content(events(source, name, kinds), keep)
        else:
            found = _Content(events_of(source, LISTS) if isinstance(source, Mapping) else (), keep)
        require(found.present >= {*LISTS}, f"{name} must hold the lists images, annotations and categories (COCO's "
                                           f"format), got {report.source}")  # fmt: skip
        require(bool(found.images), f"{name} must list at least one image, got none in {report.source}")
        categories = _categories(found.categories, report)
        require(
            bool(categories),
            f"{name} must name at least one category, got none in {report.source}: {report.brief()}",
        )
        images = _by_id(found.images, "image", "file_name", report)
        require(
            bool(images),
            f"{name} must list at least one usable image, got none in {report.source}: {report.brief()}",
        )
        super().__init__(categories, images, {}, report)
        self._columns = found.annotations
        more = {identity(c.get("id")): c for c in found.categories if isinstance(c, dict)} if keep else {}
        self.others = {c["id"]: {k: v for k, v in more.get(c["id"], {}).items() if k not in _OF_CATEGORY}
                       for c in categories}, found.others  # fmt: skip
        self._count_keypoints()
        self._join()
        self.objects = ObjectsById(self.table, {image_id: i for i, image_id in enumerate(images)})
        if not found.annotations.count:
            report.add("annotations", "the list is empty, so no image has a box", "noted")

    def _count_keypoints(self) -> None:
        """Number the keypoints of categories that do not name them: there are as many as most objects have."""
        counts = self.keypoint_counts
        seen: list[Counter[int]] = [Counter() for _ in counts]
        for (category, length), times in self._columns.lengths.items():
            label = self._label(category)
            if label is not None and not counts[label]:
                seen[label][length] += times
        for label, lengths in enumerate(seen):
            if lengths:
                counts[label] = lengths.most_common(1)[0][0]
                self.categories[label]["keypoints"] = [f"keypoint {i}" for i in range(1, counts[label] + 1)]

    def _label(self, category: Any) -> int | None:
        return self.labels.get(find(category, self.labels))  # type: ignore[arg-type]

    def _join(self) -> None:
        """Find the image and the category of each annotation, report those that have none, and group the others."""
        columns = self._columns
        positions, image_codes, category_codes, ids, crowd, areas, boxes = columns.arrays()
        places = {image_id: i for i, image_id in enumerate(self.images)}
        images = _table(places.get(find(key, places)) for key in columns.images)[image_codes]  # type: ignore[arg-type]
        labels = _table(self._label(key) for key in columns.categories)[category_codes]
        good = (images >= 0) & (labels >= 0)
        self._names = [*self.images]  # of images, by position
        problems = self._odd_problems()
        keys = [*columns.images], [*columns.categories]
        for row in np.flatnonzero(~good).tolist():
            name = columns.name(row, int(positions[row]), int(ids[row]))
            given = keys[0][image_codes[row]], keys[1][category_codes[row]]
            problems.append((int(positions[row]), *self._lost(name, *given)))
        row_problems = list(self._row_problems(good, labels))
        for row, what, action in row_problems:
            name = columns.name(row, int(positions[row]), int(ids[row])) + self._of(int(images[row]))
            problems.append((int(positions[row]), name, what, action))
        for _, name, what, action in sorted(problems, key=lambda problem: problem[0]):
            self.report.add(name, what, action)
        lost = {row for row, _, action in row_problems if action == "keypoints ignored"}
        rows = np.flatnonzero(good)
        order = rows[np.argsort(images[rows], kind="stable")]
        counts = np.bincount(images[rows], minlength=len(self.images))
        posed = _poses(columns, order, len(good), lost)
        if len(order) < len(good) or (np.diff(order) != 1).any():
            positions, ids, crowd, areas = positions[order], ids[order], crowd[order], areas[order]
            labels, boxes, images = labels[order], boxes[order], images[order]
        columns_ = (torch.from_numpy(column) for column in (boxes, labels, areas, crowd))
        self.table = ObjectTable(*columns_, _starts(counts), *posed)  # type: ignore[call-arg]
        self._where = order.astype(np.int32), positions, ids, images
        self.extras = None if columns.extras is None else [columns.extras[row] for row in order.tolist()]

    def _odd_problems(self) -> list[tuple[int, str, str, str]]:
        problems = []
        for odd in self._columns.odd:
            name = f"annotation number {odd.position}"
            if odd.given_id is not None:
                name = f"annotation {str(odd.given_id)[:60]}"
            if odd.is_object:
                found = self._lost(name, odd.image, odd.category, odd.fault)
            else:
                found = name, str(odd.fault), "annotation skipped"
            problems.append((odd.position, *found))
        return problems

    def _lost(self, name: str, image: Any, category: Any, fault: str | None = None) -> tuple[str, str, str]:
        """Return where, what and action of an annotation that is not used."""
        image_id = find(image, self.images)
        if image_id is None:
            return name, f"image {shown(image)} is not in the file", "annotation skipped"
        name += _of(image_id, self.images[image_id])
        if self._label(category) is None:
            return name, f"category {shown(category)} does not exist", "annotation skipped"
        return name, str(fault), "annotation skipped"

    def _row_problems(self, good: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, str, str]]:
        """Yield (row, what, action) of annotations that are used without some of their fields."""
        columns, counts = self._columns, np.array(self.keypoint_counts)
        for row, notes in columns.notes.items():
            if good[row]:
                yield from ((row, *note) for note in notes)
        rows, lengths = np.array(columns.posed, dtype=np.int64), np.array(columns.pose_lengths, dtype=np.int64)
        wanted = counts[labels[rows]] if len(rows) else lengths
        for p in np.flatnonzero(good[rows] & ((lengths != wanted) | (wanted == 0))).tolist():
            what = f"keypoints must be {wanted[p]} times x, y, visibility, got {3 * lengths[p]} values"
            yield int(rows[p]), what, "keypoints ignored"
        for row, (length, text) in columns.pose_bad.items():
            if good[row]:
                count = int(counts[labels[row]])
                if length == 3 * count and not text:
                    what = f"keypoints lie farther than {FARTHEST:.0f} pixels"
                else:
                    got = text if length is None or length == 3 * count else f"{length} values"
                    what = f"keypoints must be {count} times x, y, visibility, got {got}"
                yield row, what, "keypoints ignored"

    def _of(self, image: int) -> str:
        image_id = self._names[image]
        return _of(image_id, self.images[image_id])

    def name_of(self, row: int) -> str:
        """Return what the report calls the object in a row of ``table``."""
        order, positions, ids, images = self._where
        return self._columns.name(int(order[row]), int(positions[row]), int(ids[row])) + self._of(int(images[row]))


class _Content:
    """The entries of the three lists."""

    def __init__(self, read: Iterable[Event], keep: bool):
        self.images: list[Any] = []
        self.categories: list[Any] = []
        self.annotations = Columns(keep)
        self.others: dict[str, Any] = {}  # the values of other keys
        self.present: set[str] = set()  # the keys that are lists
        for event in read:
            if isinstance(event, Other):
                self.present.discard(event.key)
                if keep:
                    self.others[event.key] = event.value
            elif isinstance(event, Start):
                self.present.add(event.key)
                if event.key == "annotations":
                    self.annotations = Columns(keep)
                else:
                    setattr(self, event.key, [])
            elif event.key == "annotations":
                if event.entries is None:
                    self.annotations.add_typed(event.typed or (), event.text)
                else:
                    self.annotations.add(event.entries)
            elif event.key == "categories":
                self.categories += event.entries or ()
            elif event.entries is None:
                self.images += event.typed or ()
            else:
                self.images += event.entries if keep else map(_reduced, event.entries)


def _reduced(entry: Any) -> Any:
    return {key: entry[key] for key in _OF_IMAGE if key in entry} if isinstance(entry, dict) else entry


def _of(image_id: Id, image: Any) -> str:
    file_name = image.get("file_name")
    return f" of {file_name[-100:]}" if isinstance(file_name, str) else f" of image {str(image_id)[:60]}"


def _table(values: Iterable[int | None]) -> np.ndarray:
    return np.array([-1 if value is None else value for value in values], dtype=np.int32)


def _starts(counts: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def _poses(columns: Columns, order: np.ndarray, rows: int, lost: set[int]) -> tuple[torch.Tensor, ...]:
    """Return ``posed``, ``pose_starts`` and ``poses`` of :class:`ObjectTable`."""
    of_row, values = np.array(columns.posed, dtype=np.int64), np.array(columns.poses, dtype=np.float64)
    starts = np.append(np.array(columns.pose_starts, dtype=np.int64), len(values)) // 3
    place = np.full(rows, -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    used = (np.diff(starts) > 0) & ~np.isin(of_row, [*lost]) if len(of_row) else np.zeros(0, dtype=bool)
    used &= place[of_row] >= 0
    chosen = np.flatnonzero(used)
    chosen = chosen[np.argsort(place[of_row[chosen]])]
    lengths = np.diff(starts)[chosen]
    return (torch.from_numpy(place[of_row[chosen]]), _starts(lengths),
            torch.from_numpy(values.reshape(-1, 3)[ranges(starts[:-1][chosen], lengths)]))  # fmt: skip


def keypoints_of(given: Any, count: int) -> np.ndarray:
    """Return keypoints [count, 3] float64 from COCO's list, flat or of triples; :class:`Unusable` for anything else."""
    given = flat_keypoints(given)
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


def _by_id(entries: list[Any], kind: str, name: str, report: Report) -> dict[Id, Any]:
    """Return entries by their ids. An id that entries of several names have tells nothing: all of them are skipped."""
    found: dict[Id, Any] = {}
    same: dict[Id, list[Any]] = {}  # the entries of ids that come again
    for entry in entries:
        entry_id = identity(entry.get("id")) if isinstance(entry, dict | _Image) else None
        if entry_id is None:
            report.add(f"{kind} entry {shown(entry)}", "its id must be an integer or a text", f"{kind} skipped")
        elif entry_id in found:
            same.setdefault(entry_id, [found[entry_id]]).append(entry)
        else:
            found[entry_id] = entry
    for entry_id in same:
        names = list(dict.fromkeys(shown(entry.get(name)) for entry in same[entry_id]))
        if len(names) > 1:
            report.add(f"{kind} {shown(entry_id)}", f"the id is that of {listed(names)}", f"{kind} skipped")
            del found[entry_id]
    return found


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
