"""Writes images with their labels in each of the formats that :mod:`pyrcnn.data` reads."""

from __future__ import annotations

import csv
import io
import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from ...errors import InputError, needing, require
from ...models.labels import VOC
from ..formats import voc
from ..formats.yolo import labels_of
from ..index import Object
from ..segmentation import extent
from ..transforms import flip_pairs
from .content import Content, Item

_POSE = ("truncated", "occluded", "pose")


class File(NamedTuple):
    """A file of labels, and what it holds."""

    path: Path
    text: str


def _text(value: float) -> str:
    """Return a number so that reading gives it again, integers without a point."""
    return str(int(value)) if value == int(value) else repr(float(value))


class Writer(ABC):
    """Writes one format. ``lost`` counts what it cannot hold."""

    kept: Sequence[str] = ()  # the other fields of objects that the format holds

    def __init__(self, content: Content, out: Path, split: str, copied: bool):
        self.content, self.out, self.split, self.copied = content, out, split, copied
        self.lost: Counter[str] = Counter()
        self.classes = [str(c.get("name", c["id"])) for c in content.categories]
        self.images = self.source = out
        self.used: set[int] = set()
        self.begin()

    def begin(self) -> None:
        """Prepare for the first image."""
        return

    def path_of(self, image: Path) -> Path | None:
        """Return the file of labels of an image, if each has one."""
        return None

    def ends(self) -> list[Path]:
        """Return the files that are written last."""
        return [self.source]

    @abstractmethod
    def write(self, item: Item, name: str) -> Iterator[File]:
        """Yield the files of one image."""

    @abstractmethod
    def finish(self) -> Iterator[File]:
        """Yield the files that open the data set."""

    def objects(self, item: Item) -> Iterator[tuple[Object, dict[str, Any]]]:
        """Yield the objects with their other fields, and count what is lost with them."""
        for found, extra in zip(item.objects, item.extras, strict=True):
            self.used.add(found.label)
            for key in extra:
                if key not in self.kept and extra[key] not in (None, [], {}, ""):
                    self.lost["segmentations" if key == "segmentation" else f"fields {key} of objects"] += 1
            yield found, extra

    def count(self, found: Object, area: bool = True, keypoints: bool = True) -> None:
        """Count an area that is not that of the box, and keypoints."""
        of_box = found.box[2] * found.box[3]
        if area and abs(found.area - of_box) > 1e-6 * of_box:
            self.lost["areas that are not those of the boxes"] += 1
        if keypoints and found.keypoints is not None:
            self.lost["keypoints of objects"] += 1

    def count_ids(self, names: Sequence[str], first: int = 1) -> None:
        """Count ids of categories that the format does not hold, which numbers ``names`` from ``first`` on."""
        numbers = {name: number for number, name in enumerate(names, start=first)}
        found = zip(self.content.categories, self.classes, strict=True)
        self.lost["ids of categories"] += sum(c["id"] != numbers.get(name, c["id"]) for c, name in found)

    def used_names(self) -> list[str]:
        """Return the names of the classes that have objects, sorted."""
        return sorted({self.classes[label] for label in self.used})

    def count_unused(self) -> None:
        """Count classes without objects, where the format lists only those of the objects."""
        self.lost["classes without objects"] += len(self.classes) - len(self.used)


class _Coco(Writer):
    kept = ("segmentation",)

    def begin(self) -> None:
        self.images, self.source = self.out / "images", self.out / "annotations.json"
        self.content_ = CocoFile(self.content)

    def write(self, item: Item, name: str) -> Iterator[File]:
        self.content_.add(item, name)
        yield from ()

    def finish(self) -> Iterator[File]:
        yield File(self.source, self.content_.text())


class CocoFile:
    """COCO's annotation file, with all fields of the images and objects that are added."""

    def __init__(self, content: Content):
        self.content = content
        self.images: list[str] = []
        self.annotations: list[str] = []

    def add(self, item: Item, name: str) -> None:
        """Add an image."""
        height, width = item.size
        self.images.append(json.dumps({"id": item.image_id, "file_name": name, "width": width, "height": height}
                                      | item.entry))  # fmt: skip
        for found, extra in zip(item.objects, item.extras, strict=True):
            category = self.content.categories[found.label]
            entry = {"id": len(self.annotations) + 1, "image_id": item.image_id, "category_id": category["id"],
                     "bbox": found.box, "area": found.area, "iscrowd": int(found.crowd)} | extra  # fmt: skip
            if found.keypoints is not None:
                entry["keypoints"] = found.keypoints.reshape(-1).tolist()
                entry["num_keypoints"] = int((found.keypoints[:, 2] > 0).sum())
            self.annotations.append(json.dumps(entry))

    def text(self) -> str:
        """Return the file's text."""
        head = json.dumps({"info": {}} | self.content.others)[:-1]
        lists = ",\n".join(self.images), ",\n".join(self.annotations)
        categories = json.dumps(self.content.categories)
        return f'{head}, "images": [\n{lists[0]}\n], "annotations": [\n{lists[1]}\n], "categories": {categories}}}\n'


class _Voc(Writer):
    kept = _POSE

    def begin(self) -> None:
        self.images = self.out / "JPEGImages"
        self.stems: list[str] = []
        for name in self.classes:
            require(name == " ".join(name.split()) and name.isprintable() and name != "",
                    f"classes must be names that XML can hold, got {name!r}")  # fmt: skip

    def path_of(self, image: Path) -> Path:
        return self.out / "Annotations" / f"{image.stem}.xml"

    def ends(self) -> list[Path]:
        return [self.out / "ImageSets/Main" / f"{self.split}.txt"]

    def write(self, item: Item, name: str) -> Iterator[File]:
        height, width = item.size
        lines = ["<annotation>", f"  <filename>{escape(name)}</filename>",
                 f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]  # fmt: skip
        for found, extra in self.objects(item):
            self.count(found)
            x, y, w, h = found.box
            sides = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + w, y + h), strict=True)
            more = "".join(f"<{k}>{escape(str(extra[k]))}</{k}>" for k in _POSE if k in extra)
            box = "".join(f"<{key}>{_text(value)}</{key}>" for key, value in sides)
            lines.append(f"  <object><name>{escape(self.classes[found.label])}</name>{more}"
                         f"<difficult>{int(found.crowd)}</difficult><bndbox>{box}</bndbox></object>")  # fmt: skip
        stem = os.path.splitext(name)[0]
        self.stems.append(stem)
        file = File(self.path_of(Path(name)), "\n".join([*lines, "</annotation>\n"]))
        try:
            voc.parse(file.text.encode())
        except (ValueError, voc.expat.ExpatError) as error:
            raise InputError(f"out: the labels of {item.path} cannot be XML: {error}") from None
        yield file

    def finish(self) -> Iterator[File]:
        self.count_unused()
        names = self.used_names()
        self.count_ids(VOC if {*names} <= {*VOC} else names)
        yield File(self.ends()[0], "".join(f"{stem}\n" for stem in self.stems))


class _Yolo(Writer):
    kept = ("segmentation",)

    def begin(self) -> None:
        self.images, self.source = self.out / "images" / self.split, self.out / "data.yaml"
        self.joints = max((c.get("keypoints", []) for c in self.content.categories), key=len)

    def path_of(self, image: Path) -> Path:
        return labels_of(Path(os.path.abspath(image)))

    def write(self, item: Item, name: str) -> Iterator[File]:
        rows = [row for found, extra in self.objects(item) if (row := self._row(found, extra, item)) is not None]
        self.lost["images whose boxes refer to the image as stored"] += not item.oriented
        if len(set(rows)) < len(rows):
            self.lost["copies of objects"] += len(rows) - len(set(rows))
        yield File(self.path_of(self.images / name), "".join(f"{row}\n" for row in dict.fromkeys(rows)))

    def _row(self, found: Object, extra: dict[str, Any], item: Item) -> str | None:
        height, width = item.size
        if found.crowd:
            self.lost["crowds (left out)"] += 1
            return None
        x, y, w, h = found.box
        x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
        if x2 <= x1 or y2 <= y1:
            self.lost["boxes outside their images (left out)"] += 1
            return None
        self.lost["boxes clipped to their images"] += max(-x, -y, x + w - width, y + h - height) > 1e-6
        self.count(found, keypoints=False)
        polygon = self._polygon(found, extra)
        if polygon is not None:
            values = [v / side for v, side in zip(polygon, (width, height) * (len(polygon) // 2), strict=True)]
        else:
            self.lost["segmentations"] += bool(extra.get("segmentation"))
            clipped = (x, y, w, h) if (x1, y1) == (x, y) and x2 == x + w and y2 == y + h else (x1, y1, x2 - x1, y2 - y1)
            values = [(clipped[0] + clipped[2] / 2) / width, (clipped[1] + clipped[3] / 2) / height,
                      clipped[2] / width, clipped[3] / height]  # fmt: skip
            if self.joints:
                values += self._placed(found, width, height)
        return " ".join([str(found.label), *map(_text, values)])

    def _polygon(self, found: Object, extra: dict[str, Any]) -> list[float] | None:
        """Return the corners of a segmentation that a row can hold: one polygon, whose extent is the box."""
        parts = extra.get("segmentation")
        drawn = extent(parts) if isinstance(parts, list) and len(parts) == 1 and not self.joints else None
        if drawn is None or any(abs(a - b) > 1e-6 for a, b in zip(drawn[1], found.box, strict=True)):
            return None
        return [float(value) for value in parts[0]]  # type: ignore[index]

    def _placed(self, found: Object, width: int, height: int) -> list[float]:
        values = [0.0] * (3 * len(self.joints))
        if found.keypoints is not None:
            for i, (x, y, seen) in enumerate(found.keypoints.tolist()):
                values[3 * i : 3 * i + 3] = (x / width, y / height, seen) if seen > 0 else (0, 0, 0)
        return values

    def finish(self) -> Iterator[File]:
        self.count_ids(self.classes, first=0)
        settings: dict[str, Any] = {"train": f"images/{self.split}", "names": dict(enumerate(self.classes))}
        if self.split != "train":
            settings = {self.split: settings.pop("train")} | settings
        if self.joints:
            order = list(range(len(self.joints)))
            for left, right in flip_pairs(self.joints):
                order[left], order[right] = right, left
            settings |= {"kpt_shape": [len(order), 3], "flip_idx": order, "kpt_names": {0: list(self.joints)}}
        with needing("yaml", "writing a YOLO data set", "pyyaml"):
            import yaml
        yield File(self.source, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


class _Csv(Writer):
    def begin(self) -> None:
        self.images, self.source = self.out / "images", self.out / "annotations.csv"
        self.rows: list[list[str]] = []
        for name in self.classes:
            require(name == name.strip() and name != "" and "\0" not in name,
                    f"classes must be names that CSV can hold, got {name!r}")  # fmt: skip

    def write(self, item: Item, name: str) -> Iterator[File]:
        name = os.path.join("images", name) if self.copied else name
        size = [str(side) for side in item.size[::-1]]
        start = len(self.rows)
        for found, _ in self.objects(item):
            self.count(found, area=False)
            x, y, w, h = found.box
            corners = [_text(value) for value in (x, y, x + w, y + h)]
            of_box = abs(found.area - w * h) <= 1e-6 * w * h
            area = "" if of_box else _text(found.area)
            self.rows.append([name, *corners, self.classes[found.label], str(int(found.crowd)), area, *size])
        if len(self.rows) == start:
            self.rows.append([name, *[""] * 7, *size])
        yield from ()

    def finish(self) -> Iterator[File]:
        self.count_unused()
        self.count_ids(self.used_names())
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "xmin", "ymin", "xmax", "ymax", "class", "iscrowd", "area", "width", "height"])
        writer.writerows(self.rows)
        yield File(self.source, text.getvalue())


FORMATS: dict[str, type[Writer]] = {"coco": _Coco, "voc": _Voc, "yolo": _Yolo, "csv": _Csv}
