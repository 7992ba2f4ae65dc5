"""Data sets in Pascal VOC's format: one XML file per image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ...errors import require
from ...models.labels import VOC
from ..coco import CocoDataset, Source
from ..report import Report
from ..values import flag, number
from .listing import Listing

_KEPT = ("truncated", "occluded", "pose")  # of an object, for conversions


def voc(folder: str | Path, split: str | None = None, *, classes: Sequence[str] | None = None, one_based: bool = True,
        check: bool = True, cache: bool = False) -> CocoDataset:  # fmt: skip
    """Return a data set in Pascal VOC's format; items, checks and report are those of :func:`pyrcnn.data.coco`.

    ``folder`` holds ``Annotations/*.xml``, ``JPEGImages/`` and ``ImageSets/Main/*.txt``, as in VOC2007. It may also be
    the folder above a single ``VOC2007``, or hold the XML files beside the images.

    - Coordinates are those of VOC: whole pixels counted from 1, the last one inside the box. So a box is ``xmin - 1,
      ymin - 1, xmax, ymax`` in continuous coordinates. LabelImg, CVAT, Roboflow and other programs write continuous
      coordinates under the same names: read their files with ``one_based=False``.
    - Objects that are ``difficult`` become crowds: training does not use them, VOC's AP counts them neither as right
      nor as wrong, and COCO's AP ignores them as it ignores crowds.
    - An image is the file in ``JPEGImages`` with the stem of its XML file; if there is none, the file that the
      XML file names as ``filename``.
    - XML entities are not expanded: a file that declares any is skipped.

    Args:
        folder: see above.
        split: ``"train"``, ``"val"``, ``"trainval"``, ``"test"`` or another file in ``ImageSets/Main``, or a
            folder below ``folder`` with XML files and images; None for all XML files, sorted by name.
        classes: the classes in the order of their labels; None for VOC's 20 if all names are among them, else the
            names in the XML files of all splits, sorted.
        one_based: see above.
        check: see :func:`pyrcnn.data.coco`.
        cache: keep the decoded images in memory.

    Raises:
        pyrcnn.InputError: if there is no such folder or split, or no usable image is left.

    Example::

        train_data = data.voc("VOCdevkit/VOC2007", "trainval")
    """
    return source(folder, split, classes=classes, one_based=one_based, check=check).dataset(cache)


def source(folder: str | Path, split: str | None = None, *, classes: Sequence[str] | None = None,
           one_based: bool = True, check: bool = True) -> Source:  # fmt: skip
    """Return the content of the files; see :func:`voc`."""
    root = root_of(Path(folder))
    known = splits(root)
    listed: Path | None = None
    if split is not None:
        require(split in known, f"split must be one of {', '.join(known) or 'none: the folder has no splits'}, "
                                f"got {split!r} for {root}")  # fmt: skip
        if (root / split).is_dir():
            root = root / split
        else:
            listed = root / "ImageSets/Main" / f"{split}.txt"
    of_xml, of_images = _folders(root)
    report = Report(str(folder) if split is None else f"{folder} ({split})")
    reader = _Reader(of_images, report, classes, one_based)
    present = sorted(entry.name[:-4] for entry in os.scandir(of_xml) if entry.name.lower().endswith(".xml"))
    require(bool(present), f"folder must hold XML files of Pascal VOC's format, got none in {of_xml}")
    content = reader.read(of_xml, present if listed is None else _stems(listed, {*present}), present)
    return Source(content, of_images, report, "folder", check)


def root_of(folder: Path) -> Path:
    """Return the folder with ``Annotations``: ``folder``, or the only one in it that has any."""
    require(folder.is_dir(), f"folder must be a folder in Pascal VOC's format, got {folder}")
    if not (folder / "Annotations").is_dir():
        inside = [path for path in sorted(folder.iterdir()) if (path / "Annotations").is_dir()]
        names = ", ".join(path.name for path in inside)
        require(len(inside) < 2, f"folder must be one data set, got {folder}, which holds {names}: give one of them")
        folder = inside[0] if inside else folder
    return folder


def splits(root: Path) -> list[str]:
    """Return the names of the splits: those in ``ImageSets/Main``, or of folders that hold XML files."""
    sets = root / "ImageSets/Main"
    if sets.is_dir():
        return sorted(path.stem for path in sets.glob("*.txt"))
    return [path.name for path in sorted(root.iterdir())
            if path.name != "Annotations" and path.is_dir() and next(path.glob("*.xml"), None)]  # fmt: skip


def _folders(root: Path) -> tuple[Path, Path]:
    """Return the folders of the XML files and of the images."""
    of_xml, of_images = root / "Annotations", root / "JPEGImages"
    of_xml = of_xml if of_xml.is_dir() else root
    others = (of_images, root / "images", root / "Images")
    return of_xml, next((path for path in others if path.is_dir()), root)


def _stems(file: Path, present: set[str]) -> list[str]:
    """Return the images of a list. In the list of a class, a second word tells whether the class is there."""
    lines = map(str.strip, file.read_text("utf-8", errors="surrogateescape").splitlines())
    return [line if line in present else line.split()[0] for line in lines if line]


class _Reader:
    def __init__(self, images: Path, report: Report, classes: Sequence[str] | None, one_based: bool):
        self.images, self.report, self.classes, self.one_based = images, report, classes, one_based
        self.listing = Listing(images, deep=False)

    def read(self, folder: Path, wanted: Sequence[str], present: Sequence[str]) -> dict[str, Any]:
        """Return COCO's dictionary of the XML files ``wanted``; the classes are those in all files ``present``."""
        files = dict.fromkeys(wanted)
        if len(files) < len(wanted):
            again = len(wanted) - len(files)
            self.report.add("the split", f"{again} of {len(wanted)} lines name an image again", "noted")
        found: dict[str, Element] = {}
        names: set[str] = set()
        known = {*present}
        for stem in dict.fromkeys([*files, *(present if self.classes is None else ())]):
            if stem not in known:
                self.report.add(f"annotations {stem}.xml", "the file is missing", "image skipped")
                continue
            tree = self._parsed(folder / f"{stem}.xml", stem in files)
            if tree is not None:
                names.update(_text(o, "name") for o in tree.iterfind("object"))
                if stem in files:
                    found[stem] = tree
        ids = {name: i for i, name in enumerate(self._classes(names - {""}), start=1)}
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for stem, tree in found.items():
            image_id = len(images) + 1
            image = {"id": image_id, "file_name": self._file_name(stem, _text(tree, "filename"))}
            images.append(image | {side: _text(tree, f"size/{side}") for side in ("width", "height")})
            annotations += (self._object(element, f"{stem}.xml object {n}", image_id, ids)
                            for n, element in enumerate(tree.iterfind("object"), start=1))  # fmt: skip
        categories = [{"id": i, "name": name} for name, i in ids.items()]
        return {"images": images, "annotations": annotations, "categories": categories}

    def _parsed(self, file: Path, report: bool) -> Element | None:
        try:
            return parse(file.read_bytes())
        except OSError as error:
            fault = error.strerror or "it cannot be read"
        except (expat.ExpatError, ValueError, LookupError) as error:
            fault = f"it is not XML of Pascal VOC's format ({error})"
        if report:
            self.report.add(f"annotations {file.name}", fault, "image skipped")
        return None

    def _classes(self, names: set[str]) -> Iterable[str]:
        if self.classes is not None:
            return map(str, self.classes)
        return VOC if names <= {*VOC} else sorted(names)

    def _file_name(self, stem: str, stated: str) -> str:
        same = self.listing.stems().get(stem, [])
        if same:
            return stated if stated in same else same[0]
        return self.listing.find(stated or f"{stem}.jpg")

    def _object(self, element: Element, name: str, image_id: int, ids: dict[str, int]) -> dict[str, Any]:
        kind = _text(element, "name")
        box = [_text(element, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        corners = [number(value) for value in box]
        bbox: Any = box
        if None not in corners:
            x1, y1, x2, y2 = corners
            shift = 1 if self.one_based else 0
            bbox = [x1 - shift, y1 - shift, x2 - x1 + shift, y2 - y1 + shift]  # type: ignore[operator]
        stated = _text(element, "difficult")
        difficult = flag(stated) if stated.lower() not in ("", "unspecified") else False
        return {
            "id": name, "image_id": image_id, "category_id": ids.get(kind, {"name": kind}), "bbox": bbox,
            "iscrowd": stated if difficult is None else int(difficult),
        } | {key: text for key in _KEPT if (text := _text(element, key)) not in ("", "0", "Unspecified")}  # fmt: skip


def _text(element: Element, path: str) -> str:
    return re.sub(r"\s+", " ", element.findtext(path) or "").strip()


def parse(content: bytes) -> Element:
    """Return the root of an XML text. ``ValueError`` if it declares entities or is no ``annotation``."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _refuse_entities
    parser.Parse(content, True)
    root = builder.close()
    if root.tag != "annotation":
        raise ValueError(f"its root is {root.tag[:60]}")
    return root


def _refuse_entities(name: str, *_: object) -> None:
    raise ValueError(f"it declares the entity {name[:60]}")
