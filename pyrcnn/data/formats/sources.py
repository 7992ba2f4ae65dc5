"""Opens a data set of any format: finds out which one it is."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import InputError, require
from ..coco import CocoDataset, Source
from ..coco import source as coco_source
from . import tables, voc, yolo
from .listing import image_names

TRAIN, VALIDATION = ("train", "trainval"), ("val", "valid", "validation", "test")  # preferred names of splits
OPTIONS = {"zero_based": "voc", "normalized": "csv"}  # after the path, and the format that has it
_KINDS = "a COCO file (.json), a folder in Pascal VOC's format, the YAML file of a YOLO data set, or a .csv file"


def open(source: str | Path, images: str | Path | None = None, *, split: str | None = None,
         prefer: Sequence[str] = (), check: bool = True, cache: bool = False) -> CocoDataset:  # fmt: skip
    """Return the data set ``source`` of any format; each format's function has more options.

    - a ``.json`` file: :func:`pyrcnn.data.coco`; ``images``, or a folder beside it that has images
    - a ``.yaml`` file: :func:`pyrcnn.data.yolo`
    - a ``.csv`` or ``.tsv`` file: :func:`pyrcnn.data.csv`; ``images``, or the file's folder
    - a folder: with ``data.yaml``, YOLO; with XML files or ``Annotations``, :func:`pyrcnn.data.voc`; with a single
      ``.json`` or ``.csv`` file, that file

    Args:
        source: see above. ``PATH:SPLIT`` names a split too, as in ``VOC2007:trainval``. The words ``zero_based`` (VOC:
            coordinates as LabelImg, CVAT and Roboflow write them) and ``normalized`` (CSV) are options:
            ``labelled:zero_based``, ``VOC2007:train,zero_based``, ``boxes.csv:normalized``.
        images: the folder of the images, for COCO and CSV.
        split: the split of a data set that has some.
        prefer: splits to choose from if none is named: the first that the data set has. Without a choice, a VOC folder
            and a CSV file are read whole, and a YOLO data set's ``train``.
        check: see :func:`pyrcnn.data.coco`.
        cache: keep the decoded images in memory.

    Raises:
        pyrcnn.InputError: if ``source`` is no data set of these formats, or as the format's function does.

    Example::

        train_data = data.open("VOCdevkit/VOC2007:trainval")
        val_data = data.open("annotations/val.json", "images")
    """
    return read(source, images, split=split, prefer=prefer, check=check).dataset(cache)


def read(source: str | Path, images: str | Path | None = None, *, split: str | None = None,
         prefer: Sequence[str] = (), check: bool = True) -> Source:  # fmt: skip
    """Return what :func:`open` reads, not yet checked."""
    path, split, options = _parts(source, split)
    kind, path = kind_of(path)
    wrong = [name for name in options if OPTIONS[name] != kind]
    require(not wrong, f"data must have options of its format, got {', '.join(wrong)} for {source}")
    if kind == "coco":
        require(split is None, f"split must be none for COCO's format, which has one file per split, got {split!r}")
        return coco_source(_images_of(path) if images is None else images, path, check=check)
    if kind == "csv":
        known = tables.splits(path) if prefer and split is None else []
        normalized = "normalized" in options
        return tables.source(path, images, split or _first(prefer, known), normalized=normalized, check=check)
    require(images is None, f"images must not be given for a data set of {kind.upper()}'s format, which names its "
                            f"images itself, got {images}")  # fmt: skip
    if kind == "yolo":
        known = yolo.splits(yolo.read_yaml(path)) if split is None else []
        return yolo.source(path, split or _first(prefer, known) or "train", check=check)
    known = voc.splits(voc.root_of(path)) if split is None else []
    one_based = "zero_based" not in options
    return voc.source(path, split or _first(prefer, known), one_based=one_based, check=check)


def takes_images(source: str | Path) -> bool:
    """Whether ``source`` is of a format whose images are in a folder that it does not name."""
    return kind_of(_parts(source, None)[0])[0] in ("coco", "csv")


def _first(prefer: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the first of the preferred splits that is known. Raises if there are others only."""
    found = next((split for split in prefer if split in known), None)
    require(not prefer or not known or found is not None,
            f"split must be named (PATH:SPLIT), got none of {', '.join(prefer)} among {', '.join(known)}")  # fmt: skip
    return found


def _parts(source: str | Path, split: str | None) -> tuple[Path, str | None, list[str]]:
    """Return the path, the split and the options of ``PATH:SPLIT,OPTION``."""
    text = os.fspath(source)
    before, colon, after = text.rpartition(":")
    if not colon or not after or os.path.exists(text) or not os.path.exists(before):
        return Path(text), split, []
    words = after.split(",")
    options, named = [w for w in words if w in OPTIONS], [w for w in words if w not in OPTIONS]
    require(len(named) + (split is not None) < 2, f"split must be one, got {after!r} for {before}")
    return Path(before), named[0] if named else split, options


def absolute(source: str | Path) -> str:
    """Return ``source`` with its full path, and with its split and options."""
    path, split, options = _parts(source, None)
    words = ",".join([split, *options] if split else options)
    return os.path.abspath(path) + (f":{words}" if words else "")


def kind_of(path: Path) -> tuple[str, Path]:
    """Return the format, ``"coco"``, ``"voc"``, ``"yolo"`` or ``"csv"``, and the file or folder to read."""
    kinds = {".json": "coco", ".yaml": "yolo", ".yml": "yolo", ".csv": "csv", ".tsv": "csv"}
    if not path.is_dir():
        require(path.exists(), f"data must be {_KINDS}, got {path}, which does not exist")
        require(path.suffix.lower() in kinds, f"data must be {_KINDS}, got {path}")
        return kinds[path.suffix.lower()], path
    for name in ("data.yaml", "data.yml"):
        if (path / name).is_file():
            return "yolo", path / name
    inner = [path, *(p for p in sorted(path.iterdir()) if p.is_dir())]
    if any((p / "Annotations").is_dir() or next(p.glob("*.xml"), None) for p in inner):
        return "voc", path
    files = [p for p in sorted(path.iterdir()) if p.suffix.lower() in kinds and p.is_file()]
    if len(files) == 1:
        return kinds[files[0].suffix.lower()], files[0]
    found = f", which holds {', '.join(p.name for p in files[:5])}: give one of them" if files else ""
    raise InputError(f"data must be {_KINDS}, got the folder {path}{found}")


def _images_of(file: Path) -> Path:
    """Return the folder of the images of a COCO file: the likely one with the first image, or with any."""
    split = file.stem.rpartition("_")[2]
    around = (file.parent, file.parent.parent)
    places = [*(folder / split for folder in around), *(folder / "images" / split for folder in around),
              *(folder / "images" for folder in around), file.parent]  # fmt: skip
    places = [place for place in places if place.is_dir()]
    name = _first_name(file)
    if name is not None and (found := next((p for p in places if (p / name).is_file()), None)):
        return found
    if found := next((p for p in places if next(image_names(p), None) is not None), None):
        return found
    raise InputError(f"images must be the folder of the images of {file}, got none, and there is none beside it")


def _first_name(file: Path) -> str | None:
    """Return the first ``file_name`` in a COCO file, if it stands near the beginning of the file."""
    with contextlib.suppress(OSError, ValueError), file.open("rb") as stream:
        found = re.search(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")', stream.read(1 << 20))
        name = json.loads(found[1]) if found else ""
        if name and "\0" not in name and not name.startswith("/"):
            return name
    return None
