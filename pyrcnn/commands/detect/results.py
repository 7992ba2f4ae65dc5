"""The forms in which ``pyrcnn detect`` prints what it has found."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor

from ...data.annotations import AnnotationFile
from ...data.report import Report
from ...errors import require
from ...evaluate.prediction import to_results
from ...models.labels import class_labels, match_classes
from ...structures import Detections
from ...texts import listed
from .. import terminal
from .sources import Item, Source

_IN_MEMORY = 1 << 20  # bytes of results; more lie in a temporary file


class Results(ABC):
    """Gets the detections of each image, in the CPU's memory, and prints them: at once, or all at the end."""

    at_once = False
    """Whether :meth:`add` prints, which shows the progress on a terminal."""

    def __init__(self, model: Any):
        self.model = model

    @abstractmethod
    def add(self, item: Item, image: Tensor, annotated: Path | None, detections: Detections) -> None:
        """Take the detections of one image [3, H, W], whose annotated copy is ``annotated``."""

    def finish(self) -> None:  # noqa: B027 - those that print at once have nothing left
        """Print what has not been printed yet, when all images are done."""


class Text(Results):
    """A table per image."""

    at_once = True

    def add(self, item: Item, image: Tensor, annotated: Path | None, detections: Detections) -> None:
        """Print the table."""
        found = detections.numpy()
        rows = [
            [f"  {self.model.classes[label]}", f"{score:.2f}", *(f"{v:.0f}" for v in box)]
            for label, score, box in zip(found["labels"], found["scores"], found["boxes"], strict=True)
        ]
        count = {0: "nothing found", 1: "1 object"}.get(len(rows), f"{len(rows)} objects")
        terminal.show(f"{item}: {count}")
        if rows:
            numbers = ("score", "x1", "y1", "x2", "y2")
            terminal.print_table(("  class", *numbers), rows, right=numbers)
        if annotated is not None and item.frame is None:
            terminal.show(f"  annotated image: {annotated}")


class JsonLines(Results):
    """One JSON object per image and line, as soon as it is known."""

    at_once = True

    def add(self, item: Item, image: Tensor, annotated: Path | None, detections: Detections) -> None:
        """Print the line."""
        terminal.print_json(entry(item, image, annotated, detections, self.model))


class Json(Results):
    """One JSON array with an object per image."""

    def __init__(self, model: Any):
        super().__init__(model)
        self._array = _Array(indent=1)

    def add(self, item: Item, image: Tensor, annotated: Path | None, detections: Detections) -> None:
        """Keep the object."""
        self._array.append(entry(item, image, annotated, detections, self.model))

    def finish(self) -> None:
        """Print the array."""
        self._array.show()


class CocoResults(Results):
    """COCO's results format, a list, whose images and categories have the ids that an annotation file gives them."""

    def __init__(self, model: Any, image_ids: dict[Path, Any], annotations: AnnotationFile):
        super().__init__(model)
        self._image_ids, self._array = image_ids, _Array()
        classes = [str(c.get("name", c["id"])) for c in annotations.categories]
        ids = [c["id"] for c in annotations.categories]
        known_ids, known = class_labels(model)
        labels = match_classes(classes, ids, known, known_ids)
        require(
            any(label is not None for label in labels),
            f"--annotations must have classes of the model ({listed(known)}), got {listed(classes)}",
        )
        category_of = dict(zip(labels, ids, strict=True))
        self._category_ids = [category_of.get(label) for label in range(len(known))]

    def add(self, item: Item, image: Tensor, annotated: Path | None, detections: Detections) -> None:
        """Keep the results; detections of classes that the annotations lack are left out."""
        for result in to_results(detections, self._image_ids[item.source.path], self._category_ids):
            self._array.append(result)

    def finish(self) -> None:
        """Print the list."""
        self._array.show()


class CocoObject(Results):
    """An object in COCO's annotation format: images numbered from 1, categories, and annotations with scores."""

    def __init__(self, model: Any):
        super().__init__(model)
        self._images, self._results = _Array(), _Array()

    def add(self, item: Item, image: Tensor, annotated: Path | None, detections: Detections) -> None:
        """Keep the image's entry and its detections."""
        number = self._images.count + 1
        described = {"id": number, "file_name": item.source.name, "height": image.shape[1], "width": image.shape[2]}
        if item.frame is not None:
            described |= {"file_name": f"{item.source.name}#{item.frame.number}"} | _of_frame(item)
        self._images.append(described)
        for result in to_results(detections, number, self.model.category_ids):
            area = result["bbox"][2] * result["bbox"][3]
            self._results.append({"id": self._results.count + 1, **result, "area": area, "iscrowd": 0})

    def finish(self) -> None:
        """Print the object."""
        pairs = zip(self.model.category_ids, self.model.classes, strict=True)
        categories = terminal.json_text([{"id": i, "name": name} for i, name in pairs])
        terminal.show('{"images":')
        self._images.show()
        terminal.show(f', "categories": {categories}, "annotations":')
        self._results.show()
        terminal.show("}")


def entry(item: Item, image: Tensor, annotated: Path | None, detections: Detections, model: Any) -> dict[str, Any]:
    """Plain values for JSON; boxes are x1, y1, x2, y2 in pixels of the image."""
    found = detections.numpy()
    entries = []
    for i, label in enumerate(found["labels"].tolist()):
        one = {"label": model.classes[label], "category_id": model.category_ids[label],
               "score": float(found["scores"][i]), "box": found["boxes"][i].tolist()}  # fmt: skip
        if "keypoints" in found:
            one["keypoints"] = found["keypoints"][i].tolist()
        entries.append(one)
    return {"image": str(item.source.path), **_of_frame(item), "height": image.shape[1], "width": image.shape[2],
            "annotated": None if annotated is None else str(annotated), "detections": entries}  # fmt: skip


def _of_frame(item: Item) -> dict[str, Any]:
    return {} if item.frame is None else {"frame": item.frame.number, "time": round(item.frame.time, 6)}


class _Array:
    """A JSON array that is written to a temporary file as it grows, so that memory does not, and shown at the end."""

    def __init__(self, indent: int | None = None):
        self.count, self._indent = 0, indent
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="ascii")  # noqa: SIM115

    def append(self, value: Any) -> None:
        text = terminal.json_text([value], self._indent)
        start, end = (2, -2) if self._indent else (1, -1)
        self._file.write((",\n" if self.count else "") + text[start:end])
        self.count += 1

    def show(self) -> None:
        self._file.seek(0)
        if not self.count:
            terminal.show("[]")
            return
        terminal.show("[")
        while lines := self._file.readlines(_IN_MEMORY):
            terminal.show(*(line.rstrip("\n") for line in lines))
        terminal.show("]")
        self._file.close()


def image_ids(sources: Sequence[Source], annotations: AnnotationFile) -> tuple[dict[Path, Any], list[str]]:
    """The id of each source that the annotations list, by its file name, and a message for each other source.

    A file name fits if the path ends in it, folders included; the longest counts.
    """
    by_name: dict[str, list[tuple[tuple[str, ...], Any]]] = {}
    for identity, image in annotations.images.items():
        parts = PurePath(str(image.get("file_name"))).parts
        by_name.setdefault(parts[-1] if parts else "", []).append((parts, identity))
    found: dict[Path, Any] = {}
    failures = []
    for source in sources:
        require(not source.is_video, f"--annotations must go with images, got the video {source.path}")
        parts = source.path.absolute().parts
        fitting = [(len(name), i) for name, i in by_name.get(source.path.name, ()) if parts[-len(name) :] == name]
        longest = max((length for length, _ in fitting), default=0)
        ids = [i for length, i in fitting if length == longest]
        if len(ids) == 1:
            found[source.path] = ids[0]
        else:
            count = f"{len(ids)} images" if ids else "no image"
            failures.append(f"{source.path}: {annotations.report.source} lists {count} of this name")
    require(bool(found), f"--annotations must list the images: {'; '.join(failures[:3])}")
    return found, failures


def opened_annotations(file: Path) -> AnnotationFile:
    """The annotation file. Raises :class:`pyrcnn.InputError` if it is none."""
    return AnnotationFile(file, Report(str(file)), "--annotations")
