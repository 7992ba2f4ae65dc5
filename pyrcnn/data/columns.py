"""The annotations of a file as columns, filled before its images and categories are known: they may come last."""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import needing
from .segmentation import extent
from .values import FARTHEST, SMALLEST, Id, flag, identity, number, numbers, shown

with needing("msgspec", "reading data sets"):
    import msgspec

MOST_KEYPOINTS = 1000  # of an object
_NO_ID = -(2**63)
_EMPTY = (b"", b"null", b"[]")


class Unusable(Exception):
    """An entry whose meaning is not certain; the message says why."""


class Annotation(msgspec.Struct, gc=False):
    """An annotation whose values have the usual types, as msgspec reads it."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    id: int | None = None
    area: float | None = None
    iscrowd: int = 0
    keypoints: list[float] | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"")


@dataclass
class Odd:
    """An annotation that is not used, or only perhaps: what to say about it, once its image is known."""

    position: int
    given_id: Id | None
    image: Any  # as given
    category: Any
    fault: str | None  # None: its image or its category names nothing
    is_object: bool = True


class Codes(dict[Id, int]):
    """Numbers ids in the order in which they come."""

    def __missing__(self, key: Id) -> int:
        self[key] = code = len(self)
        return code


class Columns:
    """One row per annotation that is usable by itself, and :class:`Odd` ones.

    Attributes:
        count: how many annotations came.
        odd: those that are not in the columns.
        notes: row → (what is wrong, what was done about it).
        lengths: (category, number of keypoints) → how many annotations have that.
        posed: the rows that have keypoints; ``pose_lengths`` how many, ``pose_bad`` what could not be read.
        extras: the other fields of each row, if ``keep``.
    """

    def __init__(self, keep: bool = False) -> None:
        self.count = 0
        self.images, self.categories = Codes(), Codes()
        self._blocks: list[tuple[np.ndarray, ...]] = []
        self._rows = 0
        self._pending: list[tuple[Any, ...]] = []
        self.text_ids: dict[int, str] = {}  # of annotations whose ids are no 64-bit integers
        self.odd: list[Odd] = []
        self.notes: dict[int, list[tuple[str, str]]] = {}
        self.lengths: Counter[tuple[Id, int]] = Counter()
        self.posed, self.pose_lengths, self.pose_starts = array("q"), array("i"), array("q")
        self.poses = array("d")
        self.pose_bad: dict[int, tuple[int | None, str]] = {}
        self.extras: list[dict[str, Any]] | None = [] if keep else None

    # ---- entries of any types ----

    def add(self, entries: Sequence[Any]) -> None:
        """Add annotations as Python's ``json`` gives them."""
        for entry in entries:
            self._add(entry)

    def _add(self, entry: Any) -> None:
        position = self.count
        self.count += 1
        if not isinstance(entry, dict):
            self.odd.append(Odd(position, None, None, None, "it is not an object", is_object=False))
            return
        given_id, image, category = (identity(entry.get(key)) for key in ("id", "image_id", "category_id"))
        keypoints = entry.get("keypoints")
        if isinstance(keypoints, list) and keypoints and category is not None:
            length = len(keypoints) if isinstance(keypoints[0], list) else len(keypoints) / 3
            if length == int(length) <= MOST_KEYPOINTS:
                self.lengths[category, int(length)] += 1
        fault = None
        try:
            crowd = flag(entry.get("iscrowd"))
            if crowd is None:
                raise Unusable(f"iscrowd must be 0 or 1, got {shown(entry['iscrowd'])}")
            box = box_of(entry)
            if not (box[2] >= SMALLEST and box[3] >= SMALLEST):
                raise Unusable(f"box {shown(entry.get('bbox'))} has no area")
        except Unusable as error:
            fault = str(error)
        if fault is not None or image is None or category is None:
            self.odd.append(Odd(position, given_id, entry.get("image_id"), entry.get("category_id"), fault))
            return
        row = self._rows + len(self._pending)
        area = self._area(entry, box, row)
        if type(given_id) is int and abs(given_id) < 2**63:
            number_ = given_id
        else:
            number_ = _NO_ID
            if given_id is not None:
                self.text_ids[row] = str(given_id)[:60]
        self._pending.append((position, self.images[image], self.categories[category], number_, crowd, area, *box))
        self._add_keypoints(keypoints, row)
        if self.extras is not None:
            self.extras.append({key: value for key, value in entry.items() if key not in _KNOWN})

    def _area(self, entry: Mapping[str, Any], box: Sequence[float], row: int) -> float:
        given = entry.get("area")
        area = number(given)
        if area is not None and 0 < area <= FARTHEST**2:
            return area
        if given is not None:
            what = f"area must be a positive number, got {shown(given)}"
            self.notes.setdefault(row, []).append((what, "area of its segmentation or box used"))
        drawn = extent(entry.get("segmentation"))
        return drawn[0] if drawn and drawn[0] > 0 else box[2] * box[3]

    def _add_keypoints(self, given: Any, row: int) -> None:
        if given is None or given == []:
            return
        flat = flat_keypoints(given)
        values = numbers(flat)
        if values is None or len(values) % 3:
            self.pose_bad[row] = (len(flat) if isinstance(flat, list) else None, shown(given))
        elif max(map(abs, values)) > FARTHEST:
            self.pose_bad[row] = (len(values), "")
        else:
            self._pose(row, values)

    def _pose(self, row: int, values: Sequence[float]) -> None:
        self.posed.append(row)
        self.pose_lengths.append(len(values) // 3)
        self.pose_starts.append(len(self.poses))
        if any(v > 0 for v in values[2::3]):
            for i in range(0, len(values), 3):
                self.poses.extend(values[i : i + 3] if values[i + 2] > 0 else (0.0, 0.0, 0.0))

    # ---- entries of the usual types ----

    def add_typed(self, entries: Sequence[Annotation], text: str) -> None:
        """Add annotations as msgspec gives them; ``text`` is their JSON."""
        if self.extras is not None:
            self.add(json.loads(text))
            return
        try:
            boxes = np.array([entry.bbox for entry in entries], dtype=np.float64)
            areas = np.array([np.nan if e.area is None else e.area for e in entries], dtype=np.float64)
            crowd = np.array([entry.iscrowd for entry in entries], dtype=np.int64)
            ids = np.array([_NO_ID if entry.id is None else entry.id for entry in entries], dtype=np.int64)
        except OverflowError:  # integers of more than 64 bits
            self.add(json.loads(text))
            return
        sides = boxes[:, 2:]
        with np.errstate(invalid="ignore"):
            good = (np.abs(boxes) <= FARTHEST).all(1) & (sides >= SMALLEST).all(1) & ((crowd == 0) | (crowd == 1))
            stated = (areas > 0) & (areas <= FARTHEST**2)
        of_box = np.array([e.area is None and e.segmentation in _EMPTY for e in entries], dtype=bool) & ~stated
        good &= stated | of_box
        if not good.all():
            self._add_mixed(entries, good, text)
            return
        self._flush()
        first, base = self.count, self._rows
        images, categories = self.images, self.categories
        self._blocks.append((
            np.arange(first, first + len(entries), dtype=np.int32),
            np.array([images[e.image_id] for e in entries], dtype=np.int32),
            np.array([categories[e.category_id] for e in entries], dtype=np.int32), ids, crowd.astype(bool),
            np.where(stated, areas, sides[:, 0] * sides[:, 1]), boxes,
        ))  # fmt: skip
        self.count += len(entries)
        self._rows += len(entries)
        for row, entry in enumerate(entries, start=base):
            if entry.keypoints:
                if len(entry.keypoints) % 3 == 0 and len(entry.keypoints) <= 3 * MOST_KEYPOINTS:
                    self.lengths[entry.category_id, len(entry.keypoints) // 3] += 1
                self._add_keypoints(entry.keypoints, row)

    def _add_mixed(self, entries: Sequence[Annotation], good: np.ndarray, text: str) -> None:
        """Add runs of good entries at once, and the others one by one, as Python's ``json`` gives them."""
        plain = json.loads(text)
        if good.mean() < 0.9:
            self.add(plain)
            return
        start = 0
        for bad in [*np.flatnonzero(~good).tolist(), len(entries)]:
            if bad > start:
                self.add_typed(entries[start:bad], "")
            if bad < len(entries):
                self._add(plain[bad])
            start = bad + 1

    # ---- all ----

    def _flush(self) -> None:
        if self._pending:
            rows = self._pending
            values = np.array([row[5:] for row in rows], dtype=np.float64)
            positions, images, categories = np.array([row[:3] for row in rows], dtype=np.int32).T
            ids, crowd = (
                np.array([row[3] for row in rows], dtype=np.int64),
                np.array([row[4] for row in rows], dtype=bool),
            )
            self._blocks.append((positions, images, categories, ids, crowd, values[:, 0], values[:, 1:]))
            self._rows += len(rows)
            self._pending = []

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return positions, images, categories, ids, crowd, areas [N] and boxes [N, 4], and forget them."""
        self._flush()
        kinds = (np.int32, np.int32, np.int32, np.int64, bool, np.float64, np.float64)
        if not self._blocks:
            return (*(np.zeros(0, dtype=kind) for kind in kinds[:-1]), np.zeros((0, 4)))
        found = []
        for number_ in range(len(kinds)):
            found.append(np.concatenate([block[number_] for block in self._blocks]))
            self._blocks = [(*block[:number_], None, *block[number_ + 1 :]) for block in self._blocks]  # type: ignore
        self._blocks = []
        return tuple(found)

    def name(self, row: int, position: int, given_id: int) -> str:
        """Return what the report calls the annotation of a row."""
        if row in self.text_ids:
            return f"annotation {self.text_ids[row]}"
        return f"annotation number {position}" if given_id == _NO_ID else f"annotation {given_id}"


_KNOWN = {*Annotation.__struct_fields__, "num_keypoints"} - {"segmentation"}


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


def flat_keypoints(given: Any) -> Any:
    """Return the values of a list of triples in one list; anything else as it is."""
    if isinstance(given, list | tuple) and given and all(isinstance(v, list | tuple) and len(v) == 3 for v in given):
        return [v for triple in given for v in triple]
    return given
