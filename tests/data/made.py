"""One generated data set in every format, written here by hand, not by the package's own writers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from pyrcnn import data

CLASSES = ["ant", "bee", "cat"]  # sorted, so that every format gives them the same labels
FORMATS = ("coco", "voc", "yolo", "csv")


@dataclass
class Picture:
    name: str
    size: tuple[int, int]  # width, height
    objects: list[tuple[str, list[int], bool]] = field(default_factory=list)  # class, x1 y1 x2 y2, crowd


def pictures(crowds: bool = False) -> list[Picture]:
    random = np.random.default_rng(7)
    found = []
    for n, size in enumerate([(64, 48), (48, 64), (50, 50), (31, 77), (64, 48), (90, 33)]):
        picture = Picture(f"im_{n}.png", size)
        for i in range(0 if n == 2 else 4):
            low = [int(random.integers(0, side - 12)) for side in size]
            high = [int(random.integers(a + 8, side + 1)) for a, side in zip(low, size, strict=True)]
            kind = CLASSES[int(random.integers(3))]
            picture.objects.append((kind, [*low, *high], crowds and i == 1))
        found.append(picture)
    found[0].objects[0] = ("cat", found[0].objects[0][1], False)  # every class is there
    found[0].objects[2] = ("ant", found[0].objects[2][1], False)
    found[0].objects[3] = ("bee", found[0].objects[3][1], False)
    return found


def write(folder: Path, kind: str, given: list[Picture]) -> Path:
    """Write the data set and return what opens it."""
    images = {"coco": "images", "voc": "JPEGImages", "yolo": "images/train", "csv": "images"}[kind]
    (folder / images).mkdir(parents=True)
    random = np.random.default_rng(1)
    for p in given:
        pixels = random.integers(0, 256, (p.size[1], p.size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / images / p.name)
    return {"coco": _coco, "voc": _voc, "yolo": _yolo, "csv": _csv}[kind](folder, given)


def opened(folder: Path, kind: str, given: list[Picture]) -> data.CocoDataset:
    return data.open(write(folder, kind, given))


def _coco(folder: Path, given: list[Picture]) -> Path:
    images, annotations = [], []
    for n, p in enumerate(given, start=1):
        images.append({"id": n, "file_name": p.name, "width": p.size[0], "height": p.size[1]})
        for kind, (x1, y1, x2, y2), crowd in p.objects:
            annotations.append({"id": len(annotations) + 1, "image_id": n, "category_id": CLASSES.index(kind) + 1,
                                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
                                "iscrowd": int(crowd)})  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    file = folder / "a.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


def _voc(folder: Path, given: list[Picture]) -> Path:
    (folder / "Annotations").mkdir()
    for p in given:
        objects = "".join(
            f"<object><name>{kind}</name><pose>Unspecified</pose><truncated>0</truncated>"
            f"<difficult>{int(crowd)}</difficult><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for kind, (x1, y1, x2, y2), crowd in p.objects
        )
        (folder / "Annotations" / f"{Path(p.name).stem}.xml").write_text(
            f"<annotation><folder>x</folder><filename>{p.name}</filename><size><width>{p.size[0]}</width>"
            f"<height>{p.size[1]}</height><depth>3</depth></size>\n{objects}</annotation>"
        )
    return folder


def _yolo(folder: Path, given: list[Picture]) -> Path:
    (folder / "labels/train").mkdir(parents=True)
    for p in given:
        w, h = p.size
        rows = [f"{CLASSES.index(kind)} {(x1 + x2) / 2 / w!r} {(y1 + y2) / 2 / h!r} {(x2 - x1) / w!r} {(y2 - y1) / h!r}"
                for kind, (x1, y1, x2, y2), _ in p.objects]  # fmt: skip
        if rows:
            (folder / "labels/train" / f"{Path(p.name).stem}.txt").write_text("\n".join(rows) + "\n")
    (folder / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "names": dict(enumerate(CLASSES))}))
    return folder


def _csv(folder: Path, given: list[Picture]) -> Path:
    rows = ["class,ymax,xmax,filename,iscrowd,xmin,ymin,width,height"]
    for p in given:
        size = f"{p.size[0]},{p.size[1]}"
        rows += [f"{kind},{y2},{x2},images/{p.name},{int(crowd)},{x1},{y1},{size}"
                 for kind, (x1, y1, x2, y2), crowd in p.objects] or [f",,,images/{p.name},,,,{size}"]  # fmt: skip
    (folder / "a.csv").write_text("\n".join(rows) + "\n")
    return folder / "a.csv"
