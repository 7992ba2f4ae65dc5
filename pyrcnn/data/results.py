"""The one way from COCO's result format to checked detections, whether they come from a file, a list or a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError, require
from ..models.labels import Names, match_classes
from ..texts import listed
from .annotations import Annotations, keypoints_of
from .columns import Unusable, box_of
from .report import Report
from .values import Id, find, identity, number, shown

NAMES = ("category_name", "category", "label")  # where programs write the name of a detection's class
FIELDS = ("image_id", "category_id", "score")


class ResultReader:
    """Checks detections against the annotations that they are scored on.

    Detections join images by their ids. They join categories by name where there is a name: in the entry itself, or in
    the lists ``images`` and ``categories`` of an object in COCO's annotation format. Else they join them by id.
    """

    def __init__(self, annotations: Annotations, keypoints: bool, report: Report):
        self.annotations, self.kind, self.report = annotations, "keypoints" if keypoints else "bbox", report
        self.classes = [_text(c.get("name", c["id"])) for c in annotations.categories]
        self.ids: list[Id] = [c["id"] for c in annotations.categories]
        self.images: dict[Id, Id | None] | None = None  # ids of the source → of the annotations, where it lists both
        self.categories: dict[Id, int | None] | None = None
        self.names = Names(self.classes, self.ids)
        self._faults: dict[str, tuple[int, int]] = {}  # what is wrong → the first such entry, how many

    def read(self, source: Any) -> list[dict[str, Any]]:
        """Return usable detections with ``image_id``, ``label``, ``score``, and ``bbox`` or ``keypoints`` (flat).

        The report gets the other entries. Raises :class:`pyrcnn.InputError` if all entries are unusable.
        """
        if isinstance(source, Mapping) and isinstance(source.get("annotations"), list):
            self._join(source)
            source = source["annotations"]
        require(
            isinstance(source, list | tuple),
            f"detections must be a list of results (COCO's format), got {type(source).__name__}",
        )
        found = []
        for position, entry in enumerate(source):
            try:
                result = self._result(entry)
                if result is not None:
                    found.append(result)
            except Unusable as fault:
                first, count = self._faults.get(str(fault), (position, 0))
                self._faults[str(fault)] = (first, count + 1)
        nothing = bool(source) and sum(count for _, count in self._faults.values()) == len(source)
        for what, (first, count) in self._faults.items():
            if nothing:
                raise InputError(
                    f"detections entry {first} {what}; no entry of {len(source)} in {self.report.source} can be used"
                )
            more = f" and {count - 1} more" if count > 1 else ""
            self.report.add(f"detections entry {first}{more}", what, "entry skipped", count)
        return found

    def _join(self, source: Mapping[str, Any]) -> None:
        """Join the images and categories that the source lists with those of the annotations, by name."""
        if isinstance(listing := source.get("categories"), list) and listing:
            known = {identity(c.get("id")): c for c in listing if isinstance(c, dict)}
            known.pop(None, None)
            names = [_text(c.get("name", i)) for i, c in known.items()]
            found = match_classes(names, list(known), self.classes, self.ids)  # type: ignore[arg-type]
            require(
                any(label is not None for label in found),
                f"detections must have classes of the annotations ({listed(self.classes)}), got {listed(names)}",
            )
            self.categories = dict(zip(known, found, strict=True))  # type: ignore[arg-type]
        if isinstance(listing := source.get("images"), list) and listing:
            by_name: dict[str, list[Id]] = {}
            for i, image in self.annotations.images.items():
                by_name.setdefault(_text(image.get("file_name")), []).append(i)
            self.images = {}
            for image in listing:
                if isinstance(image, dict) and (given := identity(image.get("id"))) is not None:
                    same = by_name.get(_text(image.get("file_name")), [])
                    by_id = find(given, self.annotations.images)
                    unnamed = not isinstance(image.get("file_name"), str)
                    self.images[given] = by_id if unnamed or by_id in same else same[0] if len(same) == 1 else None

    def _result(self, entry: Any) -> dict[str, Any] | None:
        """Return a checked detection; None if keypoints are scored and its class has none."""
        if not isinstance(entry, Mapping):
            raise Unusable(f"must be an object, got {shown(entry)}")
        lacking = [k for k in self._needed(entry) if entry.get(k) is None]
        if lacking and lacking != [self.kind]:
            raise self._incomplete(lacking)
        known = self.annotations.images if self.images is None else self.images
        image_id = find(entry["image_id"], known)
        if image_id is not None and self.images is not None:
            image_id = self.images[image_id]
        if image_id is None:
            raise Unusable(f"must have an image_id of the annotations, got {shown(entry['image_id'])}")
        score = number(entry["score"])
        if score is None or not abs(score) < float("inf"):
            raise Unusable(f"must have a finite number as score, got {shown(entry['score'])}")
        label = self._label(entry)
        if self.kind == "keypoints" and not self.annotations.keypoint_counts[label]:
            return None
        if lacking:
            raise self._incomplete(lacking)
        result: dict[str, Any] = {"image_id": image_id, "label": label, "score": score}
        if self.kind == "keypoints":
            values = keypoints_of(entry["keypoints"], self.annotations.keypoint_counts[label])
            return result | {"keypoints": values.reshape(-1).tolist()}
        try:
            box = box_of(entry)
        except Unusable as fault:
            raise Unusable(f"must have a usable box: {fault}") from None
        if box[2] < 0 or box[3] < 0:
            raise Unusable(f"must have a box x, y, width, height with positive sides, got {shown(entry.get('bbox'))}")
        return result | {"bbox": box}

    def _incomplete(self, lacking: list[str]) -> Unusable:
        return Unusable(f"must have {', '.join((*FIELDS, self.kind))}, got no {', '.join(lacking)}")

    def _needed(self, entry: Mapping[str, Any]) -> Sequence[str]:
        drawn = self.kind == "bbox" and entry.get("bbox") is None and entry.get("segmentation") is not None
        named = entry.get("category_id") is None and self._name(entry) is not None
        needed = [*FIELDS, *(() if drawn else (self.kind,))]
        return [k for k in needed if not (named and k == "category_id")]

    def _name(self, entry: Mapping[str, Any]) -> str | None:
        """Return the name of the class in the entry, None if it has none."""
        return next((entry[key] for key in NAMES if isinstance(entry.get(key), str)), None)

    def _label(self, entry: Mapping[str, Any]) -> int:
        name, given = self._name(entry), entry.get("category_id")
        if name is not None:
            label = self.names.find(name, find(given, self.annotations.labels))
            if label is None:
                raise Unusable(f"must have a class of the annotations ({listed(self.classes)}), got {shown(name)}")
            return label
        if self.categories is not None:
            label = self.categories.get(find(given, self.categories))  # type: ignore[arg-type]
        else:
            label = self.annotations.labels.get(find(given, self.annotations.labels))  # type: ignore[arg-type]
            if label is None and isinstance(given, str):
                label = self.names.find(given)
        if label is None:
            ids = listed([f"{i} {n}" for i, n in zip(self.ids, self.classes, strict=True)])
            raise Unusable(f"must have a category_id of the annotations ({ids}), got {shown(given)}")
        return label


def _text(value: Any) -> str:
    """Return a name as text; ids and numbers too."""
    return value if isinstance(value, str) else shown(value)
