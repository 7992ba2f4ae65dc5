"""Data sets in CSV files: one box per row, under the names of columns that other programs write."""

from __future__ import annotations

import csv as csv_files
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError, require
from ...images import ImageError
from ..coco import CocoDataset, Source
from ..records import probe, upright
from ..report import Report
from ..values import flag, number, shown
from .listing import Listing

# What a column may be called, in small letters without anything but letters and digits.
COLUMNS = {
    "image": "image filename file filepath path imagepath imagename imagefile imageid img imgpath",
    "x1": "xmin x1 left bboxxmin bboxx1", "y1": "ymin y1 top bboxymin bboxy1",
    "x2": "xmax x2 right bboxxmax bboxx2", "y2": "ymax y2 bottom bboxymax bboxy2",
    "x": "x bboxx boxx left xmin x1", "y": "y bboxy boxy top ymin y1",
    "w": "w width bboxwidth boxwidth bboxw boxw", "h": "h height bboxheight boxheight bboxh boxh",
    "class": "class label labelname classname categoryname category name classid categoryid",
    "crowd": "iscrowd crowd isgroupof difficult isdifficult", "area": "area",
    "split": "split set subset mlusage",
    "image_width": "imagewidth imgwidth", "image_height": "imageheight imgheight",
}  # fmt: skip
BARE = ("image", "x1", "y1", "x2", "y2", "class")  # the columns of a file without a header
AUTOML = ("split", "image", "class", "x1", "y1", "", "", "x2", "y2")  # then two empty ones
AUTOML_SETS = {"TRAIN": "train", "TRAINING": "train", "VALIDATE": "val", "VALIDATION": "val", "TEST": "test"}
_CORNERS, _SIDES = ("x1", "y1", "x2", "y2"), ("x", "y", "w", "h")


def csv(file: str | Path, images: str | Path | None = None, split: str | None = None, *, normalized: bool = False,
        classes: Sequence[str] | None = None, check: bool = True, cache: bool = False) -> CocoDataset:  # fmt: skip
    """Return a data set in a CSV file; items, checks and report are those of :func:`pyrcnn.data.coco`.

    Each row is one object; a row without coordinates and class is an image without objects. Images and classes get
    numbers from 1 on, images in the order of their first rows. Columns are found by their names, in any order, without
    regard to case, spaces and underscores:

    - the image: ``image``, ``filename``, ``path``, ``image_id`` …, a path relative to ``images``. Its suffix may be
      missing, as in Open Images. If there is no such file, the last part of the path decides.
    - the box: ``xmin, ymin, xmax, ymax`` or ``x1, y1, x2, y2``; or ``x, y, w, h`` (``width``, ``height``). Beside
      ``xmin … ymax``, ``width`` and ``height`` are the image's, as in TensorFlow's files.
    - the class: ``class``, ``label``, ``LabelName``, ``category``, ``name`` …
    - optionally ``iscrowd``, ``difficult`` or ``IsGroupOf`` (0 or 1), ``area`` in pixels, and ``split``.

    A file without a header has the columns ``path, x1, y1, x2, y2, class`` (keras-retinanet's), or those of Google's
    AutoML (``TRAIN, path, label, x_min, y_min, , , x_max, y_max, ,``, normalized). The delimiter may be a comma, a
    semicolon or a tab.

    Args:
        file: the CSV file.
        images: the folder of the images; None for that of the file.
        split: use only the rows whose column ``split`` has this value.
        normalized: coordinates are fractions of the image's upright width and height, as in Open Images.
        classes: the classes in the order of their labels; None for all that the file names, sorted.
        check: see :func:`pyrcnn.data.coco`.
        cache: keep the decoded images in memory.

    Raises:
        pyrcnn.InputError: if the file cannot be read, a column is missing, or no usable image is left.

    Example::

        train_data = data.csv("train.csv", "images")
        open_images = data.csv("train-annotations-bbox.csv", "train", normalized=True)
    """
    return source(file, images, split, normalized=normalized, classes=classes, check=check).dataset(cache)


def source(file: str | Path, images: str | Path | None = None, split: str | None = None, *, normalized: bool = False,
           classes: Sequence[str] | None = None, check: bool = True) -> Source:  # fmt: skip
    """Return the content of the file; see :func:`csv`."""
    file = Path(file)
    folder = file.parent if images is None else Path(images)
    require(folder.is_dir(), f"images must be a folder, got {folder}")
    report = Report(str(file) if split is None else f"{file} ({split})")
    columns, rows = _table(file)
    require(split is None or "split" in columns, f"file must have a column split to choose {split!r} from, got {file}")
    if split is not None:
        at = columns["split"]
        known = sorted({_set(_cell(row, at)) for _, row in rows} - {""})
        require(split in known, f"split must be one of {', '.join(map(str, known))}, got {split!r} for {file}")
        rows = [(line, row) for line, row in rows if _set(_cell(row, at)) == split]
    given = {_cell(row, columns["class"]) for _, row in rows} - {""}
    names = sorted(given) if classes is None else [str(name) for name in classes]
    ids = {name: i for i, name in enumerate(names, start=1)}
    reader = _Rows(columns, Listing(folder), ids)
    entries, annotations = reader.read(rows)
    normalized = normalized or columns is _AUTOML_COLUMNS
    probed = None
    if normalized:
        probed = probe(folder, entries, check)
        annotations = list(_in_pixels(annotations, {e["id"]: probed[name] for name, e in entries.items()}))
    categories = [{"id": i, "name": name} for name, i in ids.items()]
    content = {"images": list(entries.values()), "annotations": annotations, "categories": categories}
    return Source(content, folder, report, "file", check, probed)


def splits(file: Path) -> list[str]:
    """Return the values of the column ``split``; empty if there is none."""
    columns, rows = _table(file)
    return sorted({_set(_cell(row, columns["split"])) for _, row in rows} - {""}) if "split" in columns else []


def _set(value: str) -> str:
    return AUTOML_SETS.get(value, value)


def _table(file: Path) -> tuple[Mapping[str, int], list[tuple[int, list[str]]]]:
    """Return the columns, by the names in ``COLUMNS``, and (line number, cells) of each row."""
    require(file.is_file(), f"file must be a CSV file, got {file}")
    try:
        text = file.read_text("utf-8-sig", errors="surrogateescape")
        head = text.partition("\n")[0]
        delimiter = max(",;\t", key=head.count)
        reader = csv_files.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except OSError as error:
        raise InputError(f"file must be readable, got {file} ({error.strerror})") from None
    except csv_files.Error as error:
        raise InputError(f"file must be a CSV file, got {file} ({error})") from None
    require(bool(rows), f"file must hold rows, got none in {file}")
    header = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in rows[0][1]]
    columns = _named(header)
    if "image" in columns and len(columns) > 1:
        wanted = [_CORNERS, _SIDES]
        good = "class" in columns and any(all(key in columns for key in keys) for keys in wanted)
        require(good, f"file must have the columns image, xmin, ymin, xmax, ymax (or x, y, width, height) and class, "
                      f"got {shown(', '.join(rows[0][1]))} in {file}")  # fmt: skip
        return columns, rows[1:]
    if len(header) == len(BARE) and all(number(cell) is not None or not cell.strip() for cell in rows[0][1][1:5]):
        return {name: i for i, name in enumerate(BARE)}, rows
    automl = len(header) in (9, 10, 11) and rows[0][1][0] in {*AUTOML_SETS, "UNASSIGNED"}
    require(automl, f"file must begin with the names of its columns or have the columns {', '.join(BARE)}, "
                    f"got {shown(', '.join(rows[0][1]))} in {file}")  # fmt: skip
    return _AUTOML_COLUMNS, rows


_AUTOML_COLUMNS = {name: i for i, name in enumerate(AUTOML) if name}


def _named(header: Sequence[str]) -> dict[str, int]:
    """Return the position of each column; of several names for one, the first in ``COLUMNS`` counts."""
    columns = {}
    for column, names in COLUMNS.items():
        found = next((name for name in names.split() if name in header), None)
        if found is not None:
            columns[column] = header.index(found)
    if all(key in columns for key in _CORNERS):  # width and height are the image's
        for side, of_image in (("w", "image_width"), ("h", "image_height")):
            if side in columns:
                columns.setdefault(of_image, columns.pop(side))
    return columns


def _cell(row: Sequence[str], at: int | None) -> str:
    return row[at].strip() if at is not None and at < len(row) else ""


class _Rows:
    """Turns rows into COCO's entries."""

    def __init__(self, columns: Mapping[str, int], listing: Listing, ids: Mapping[str, int]):
        self.columns, self.listing, self.ids = columns, listing, ids
        self.corners = all(key in columns for key in _CORNERS)

    def read(self, rows: Sequence[tuple[int, list[str]]]) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
        """Return file name → image, and the annotations."""
        images: dict[str, dict[str, Any]] = {}
        names: dict[str, str] = {}
        annotations = []
        for line, row in rows:
            given = _cell(row, self.columns["image"])
            if given not in names:
                names[given] = self.listing.find(given)
            image = images.setdefault(names[given], {"id": len(images) + 1, "file_name": names[given]})
            for side in ("width", "height"):
                if f"image_{side}" in self.columns:
                    image.setdefault(side, _cell(row, self.columns[f"image_{side}"]))
            box = [_cell(row, self.columns[key]) for key in (_CORNERS if self.corners else _SIDES)]
            kind = _cell(row, self.columns["class"])
            if any(box) or kind:
                annotations.append(self._object(row, f"row {line}", image["id"], box, kind))
        return images, annotations

    def _object(self, row: list[str], name: str, image_id: int, box: list[str], kind: str) -> dict[str, Any]:
        values = [number(value) for value in box]
        bbox: Any = box
        if None not in values:
            x, y, w, h = values
            bbox = [x, y, w - x, h - y] if self.corners else values  # type: ignore[operator]
        entry = {"id": name, "image_id": image_id, "category_id": self.ids.get(kind, {"name": kind}), "bbox": bbox}
        if "crowd" in self.columns:
            stated = _cell(row, self.columns["crowd"])
            entry["iscrowd"] = 0 if stated in ("", "-1") else stated if flag(stated) is None else int(flag(stated) or 0)
        if "area" in self.columns:
            entry["area"] = _cell(row, self.columns["area"]) or None
        return entry


def _in_pixels(annotations: Sequence[dict[str, Any]], found: Mapping[int, Any]) -> Iterator[dict[str, Any]]:
    for entry in annotations:
        of_image, box = found[entry["image_id"]], entry["bbox"]
        if not isinstance(of_image, ImageError) and all(isinstance(v, float) for v in box):
            height, width = upright(of_image)
            entry = entry | {"bbox": [v * side for v, side in zip(box, (width, height) * 2, strict=True)]}
        yield entry
