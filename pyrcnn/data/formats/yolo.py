"""Data sets in the YOLO format of Ultralytics: a YAML file, folders of images, and one text file per image."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError, needing, require
from ...images import ImageError
from ..annotations import MOST_KEYPOINTS
from ..coco import CocoDataset, Source
from ..records import probe, upright
from ..report import Report
from ..segmentation import extent
from ..transforms import COCO_FLIP_PAIRS
from ..values import number, shown
from .listing import image_names

SPLITS = ("train", "val", "test")
_TOLERANCE = 0.01  # by which normalized coordinates may leave 0..1
COCO_KEYPOINTS = ("nose", *(f"{side}_{part}" for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee",
                                                          "ankle") for side in ("left", "right")))  # fmt: skip


def yolo(file: str | Path, split: str = "train", *, check: bool = True, cache: bool = False) -> CocoDataset:
    """Return a data set in the YOLO format of Ultralytics; items, checks and report are those of :func:`data.coco`.

    ``file`` is the data set's YAML file, or the folder that holds it as ``data.yaml``:

    - ``path``: the folder that all others are relative to; itself relative to the YAML file. Default: its folder.
    - ``train``, ``val``, ``test``: a folder of images (with all folders in it), a text file with one image path per
      line, or a list of such. Paths in a text file are relative to it or, if there is no such file, to ``path``.
    - ``names``: the classes, as a list or as a mapping from 0…; or ``nc``, their number.
    - ``kpt_shape: [J, 2 or 3]`` and ``flip_idx`` for keypoints. Names of keypoints tell which swap in a flip. They are
      those of ``kpt_names`` or, for COCO's 17 with COCO's ``flip_idx``, COCO's; else ``left_2`` and ``right_3`` for
      keypoints that swap.

    The labels of ``a/images/b/c.jpg`` are in ``a/labels/b/c.txt``: the last folder ``images`` is replaced. Without
    such a folder they are beside the image. An image without labels is background. Each row is an object: ``class
    center_x center_y width height``, in fractions of the image's upright size; with ``kpt_shape`` the keypoints follow
    (x, y and visibility, or x, y, where 0 0 and negative numbers mean: not labelled); ``class x y x y x y …`` is a
    polygon, whose extent is the box. Rows with other counts, coordinates outside 0..1, unknown classes, and copies of
    rows above are skipped with a line in the report.

    The annotation's category ids are the class numbers of the rows, from 0. Images are sorted by path.

    Args:
        file: see above.
        split: ``"train"``, ``"val"`` or ``"test"``.
        check: see :func:`pyrcnn.data.coco`.
        cache: keep the decoded images in memory.

    Raises:
        pyrcnn.InputError: if the file cannot be read, lacks the split or the classes, or no usable image is left.

    Example::

        train_data, val_data = data.yolo("data.yaml"), data.yolo("data.yaml", "val")
    """
    return source(file, split, check=check).dataset(cache)


def source(file: str | Path, split: str = "train", *, check: bool = True) -> Source:
    """Return the content of the files; see :func:`yolo`."""
    file = Path(file)
    file = next((f for f in (file / "data.yaml", file / "data.yml") if f.is_file()), file) if file.is_dir() else file
    settings = read_yaml(file)
    root = _root(file, settings)
    known = splits(settings)
    require(split in known, f"split must be one of {', '.join(known) or 'none: the file has no splits'}, "
                            f"got {split!r} for {file}")  # fmt: skip
    report = Report(f"{file} ({split})")
    categories = _categories(settings, file)
    images = list(dict.fromkeys(_images(settings[split], root, file, report)))
    require(bool(images), f"file must list at least one image as {split}, got none in {file}")
    base = Path(os.path.commonpath([os.path.dirname(image) for image in images]))
    names = sorted(os.path.relpath(image, base) for image in images)
    probed = probe(base, names, check)
    reader = _Rows(report, settings.get("kpt_shape"), file)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number_, name in enumerate(names, start=1):
        entries.append({"id": number_, "file_name": name})
        if not isinstance(found := probed[name], ImageError):
            annotations += reader.read(labels_of(base / name), name, number_, upright(found))
    content = {"images": entries, "annotations": annotations, "categories": categories}
    return Source(content, base, report, "file", check, probed)


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the settings of a YAML file; :class:`pyrcnn.InputError` if it is none."""
    require(file.is_file(), f"file must be the YAML file of a data set, got {file}")
    with needing("yaml", f"reading {file}", "pyyaml"):
        import yaml
    try:
        settings = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise InputError(f"file must be readable, got {file} ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"file must be valid YAML, got {file} ({text})") from None
    require(isinstance(settings, dict), f"file must map train, val and names, got {shown(settings)} in {file}")
    return settings


def splits(settings: dict[str, Any]) -> list[str]:
    """Return the names of the splits that a YAML file has."""
    return [split for split in SPLITS if settings.get(split)]


def _root(file: Path, settings: dict[str, Any]) -> Path:
    stated = settings.get("path") or "."
    require(isinstance(stated, str) and "\0" not in stated, f"path must be a folder, got {shown(stated)} in {file}")
    beside, here = file.parent / stated, Path(stated)
    root = beside if beside.is_dir() else here
    require(root.is_dir(), f"path must be a folder, got {stated} in {file}")
    return root


def _images(places: Any, root: Path, file: Path, report: Report) -> Iterator[str]:
    """Yield the absolute paths of the images of a split."""
    for place in places if isinstance(places, list) else [places]:
        require(isinstance(place, str) and "\0" not in place, f"file must name folders or text files of images, "
                                                             f"got {shown(place)} in {file}")  # fmt: skip
        path = root / place
        if not path.exists() and place.startswith("../"):  # Roboflow's paths are relative to a folder that is missing
            path = root / place[3:]
        if path.is_dir():
            found: Iterator[str] = (os.path.join(path, name) for name in image_names(path))
        elif path.is_file():
            found = _listed(path, root)
        else:
            report.add(f"images {place}", f"there is no folder or file {path}", "images skipped")
            continue
        yield from map(os.path.abspath, found)


def _listed(file: Path, root: Path) -> Iterator[str]:
    """Yield the paths in a text file."""
    for line in map(str.strip, file.read_text("utf-8-sig", errors="surrogateescape").splitlines()):
        if line and "\0" not in line:
            beside = os.path.join(file.parent, line)
            yield beside if os.path.exists(beside) else os.path.join(root, line)


def labels_of(image: Path) -> Path:
    """Return the file with the labels of an image.

    >>> str(labels_of(Path("a/images/b/images/c.jpg")))
    'a/images/b/labels/c.txt'
    """
    before, found, after = str(image).rpartition(f"{os.sep}images{os.sep}")
    path = f"{before}{os.sep}labels{os.sep}{after}" if found else after
    return Path(os.path.splitext(path)[0] + ".txt")


def _categories(settings: dict[str, Any], file: Path) -> list[dict[str, Any]]:
    names: Any = settings.get("names")
    count = settings.get("nc")
    if names is None and isinstance(count, int) and 0 < count <= 100_000:
        names = [f"class {i}" for i in range(count)]
    names = dict(enumerate(names)) if isinstance(names, list) else names
    good = isinstance(names, dict) and all(isinstance(i, int) and i >= 0 for i in names)
    require(good and bool(names), f"names must be a list of classes, or map 0, 1 … to them, "
                                  f"got {shown(names)} in {file}")  # fmt: skip
    require(count is None or count == len(names), f"nc must be the number of names, {len(names)}, "
                                                  f"got {shown(count)} in {file}")  # fmt: skip
    joints = _keypoints(settings, file)
    categories = [{"id": i, "name": str(name)} for i, name in sorted(names.items())]
    return [category | {"keypoints": joints} for category in categories] if joints else categories


def _keypoints(settings: dict[str, Any], file: Path) -> list[str]:
    """Return the names of the keypoints."""
    shape, swapped = settings.get("kpt_shape"), settings.get("flip_idx")
    if shape is None:
        return []
    good = isinstance(shape, list) and len(shape) == 2 and all(type(v) is int for v in shape)
    good = good and 0 < shape[0] <= MOST_KEYPOINTS and shape[1] in (2, 3)
    require(good, f"kpt_shape must be [number of keypoints, 2 or 3], got {shown(shape)} in {file}")
    count = shape[0]
    stated = settings.get("kpt_names")
    stated = next(iter(stated.values()), None) if isinstance(stated, dict) else stated
    if isinstance(stated, list) and len(stated) == count:
        return [str(name) for name in stated]
    names = [f"keypoint {i}" for i in range(1, count + 1)]
    if swapped is None:
        return names
    good = isinstance(swapped, list) and all(type(v) is int for v in swapped) and sorted(swapped) == [*range(count)]
    good = good and all(swapped[other] == i for i, other in enumerate(swapped))
    require(good, f"flip_idx must give the partner of each of the {count} keypoints, got {shown(swapped)} in {file}")
    pairs = tuple((i, other) for i, other in enumerate(swapped) if i < other)
    if count == len(COCO_KEYPOINTS) and pairs == COCO_FLIP_PAIRS:
        return list(COCO_KEYPOINTS)
    for left, right in pairs:
        names[left], names[right] = f"left_{left + 1}", f"right_{left + 1}"
    return names


class _Rows:
    """Reads text files of labels."""

    def __init__(self, report: Report, kpt_shape: Sequence[int] | None, file: Path):
        self.report = report
        self.joints, self.of_joint = kpt_shape or (0, 0)

    def read(self, file: Path, image: str, image_id: int, size: tuple[int, int]) -> Iterator[dict[str, Any]]:
        """Yield the annotations of an image in COCO's format."""
        try:
            lines = file.read_text("utf-8-sig", errors="replace").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self.report.add(f"labels {file}", error.strerror or "the file cannot be read", "labels skipped")
            return
        seen: set[tuple[str, ...]] = set()
        for position, words in enumerate((tuple(line.split()) for line in lines), start=1):
            if not words:
                continue
            name = f"row {position} of {file.name}"
            if words in seen:
                self.report.add(f"annotation {name} of {image}", "it is a copy of a row above", "annotation skipped")
                continue
            seen.add(words)
            try:
                entry = self._entry(words, size)
            except ValueError as fault:
                self.report.add(f"annotation {name} of {image}", str(fault), "annotation skipped")
                continue
            yield {"id": name, "image_id": image_id} | entry

    def _entry(self, words: Sequence[str], size: tuple[int, int]) -> dict[str, Any]:
        """Return what a row says, in pixels; ``ValueError`` if that is not certain."""
        values = [number(word) for word in words]
        if None in values or not all(map(math.isfinite, values)):  # type: ignore[arg-type]
            raise ValueError(f"a row must be numbers, got {shown(' '.join(words))}")
        kind, *rest = values
        entry: dict[str, Any] = {"category_id": kind}
        height, width = size
        posed = self.joints and len(rest) == 4 + self.joints * self.of_joint
        polygon = not posed and len(rest) >= 6 and len(rest) % 2 == 0
        if not (posed or polygon or len(rest) == 4):
            wanted = f"5 or {5 + self.joints * self.of_joint}" if self.joints else "5"
            raise ValueError(f"a row must have {wanted} numbers, or a class and three or more points, got {len(words)}")
        inside = rest if polygon else rest[:4]
        if not all(-_TOLERANCE <= v <= 1 + _TOLERANCE for v in inside):  # type: ignore[operator]
            raise ValueError(f"coordinates must be fractions 0..1 of the image, got {shown(' '.join(words))}")
        if polygon:
            points = [v * side for v, side in zip(rest, (width, height) * (len(rest) // 2), strict=True)]  # type: ignore
            drawn = extent([points])
            return entry | {"bbox": drawn and drawn[1], "segmentation": [points]}
        x, y, w, h = rest[:4]
        entry["bbox"] = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]  # type: ignore[operator]
        if posed:
            entry["keypoints"] = self._placed(rest[4:], size)  # type: ignore[arg-type]
        return entry

    def _placed(self, values: list[float], size: tuple[int, int]) -> list[float]:
        found: list[float] = []
        for x, y, *seen in (values[i : i + self.of_joint] for i in range(0, len(values), self.of_joint)):
            absent = x < 0 or y < 0 or (x == 0 == y)
            visible = seen[0] if seen else float(not absent) * 2
            found += [x * size[1], y * size[0], visible] if visible > 0 else [0.0, 0.0, 0.0]
        return found
