"""Converts data sets into other formats."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...atomic import check_folder, check_outputs, replacing
from ...errors import InputError, require
from .content import Content
from .writers import FORMATS, File

IMAGES = ("copy", "link", "leave")


class Written(NamedTuple):
    """What a conversion made: the file or folder that opens the data set, and what the format could not hold."""

    source: Path
    lost: list[str]


def convert(content: Content, out: Path, to: str, *, images: str = "copy", split: str = "train",
            overwrite: bool = False, progress: Callable[[int], None] = lambda done: None) -> Written:  # fmt: skip
    """Write a data set in another format.

    The file that opens the data set is written last, so an interrupted conversion cannot be mistaken for a whole one.

    Args:
        content: the data set.
        out: the folder to write to.
        to: ``"coco"``, ``"voc"``, ``"yolo"`` or ``"csv"``.
        images: ``"copy"``; ``"link"``: hard links, or copies on another file system; ``"leave"``: where they
            are, which COCO and CSV allow.
        split: the name of the split, for VOC and YOLO.
        overwrite: replace files that exist; never those that are read.
        progress: called with the number of images that are done.

    Raises:
        pyrcnn.InputError: if a file may not or cannot be written, or the format cannot hold the names of the classes.
    """
    require(to in FORMATS, f"--to must be one of {', '.join(FORMATS)}, got {to!r}")
    require(images in IMAGES, f"--place must be one of {', '.join(IMAGES)}, got {images!r}")
    require(images != "leave" or to in ("coco", "csv"), f"--place must be copy or link for {to}, got 'leave'")
    require(bool(split) and os.sep not in split and split not in (".", ".."), f"--split must be a name, got {split!r}")
    writer = FORMATS[to](content, out, split, images != "leave")
    names = _names(content, flat=to == "voc", own_stems=to != "coco") if images != "leave" else None
    targets = [] if names is None else [writer.images / name for name in names]
    read = [item.path for item in content]
    check_folder(out, "out")
    labels = [path for path in map(writer.path_of, targets) if path is not None]
    # Files that an earlier run linked are the images themselves.
    linked = {n for n, target in enumerate(targets) if images == "link" and _is_same(target, read[n])}
    check_outputs((targets[n] for n in linked), "out", overwrite=overwrite)
    new = [target for n, target in enumerate(targets) if n not in linked]
    check_outputs([*new, *labels, *writer.ends()], "out", overwrite=overwrite, inputs=read)
    for number, item in enumerate(content):
        name = item.name if names is None else names[number]
        if names is not None and number not in linked:
            _place(item.path, targets[number], images, overwrite)
        for file in writer.write(item, name):
            _save(file, overwrite)
        progress(number + 1)
    for file in writer.finish():
        _save(file, overwrite, flush=True)
    lost = [f"{what}: {count}" for what, count in writer.lost.items() if count]
    if names is not None and (renamed := _renamed(names, content)):
        lost.append(f"folders and equal names of images: {renamed} renamed")
    return Written(writer.source, lost)


def _is_same(target: Path, source: Path) -> bool:
    return target.exists() and target.samefile(source)


def _save(file: File, overwrite: bool, flush: bool = False) -> None:
    with replacing(file.path, argument="out", overwrite=overwrite, flush=flush) as temporary:
        temporary.write_bytes(file.text.encode("utf-8", "surrogateescape"))


def _place(source: Path, target: Path, how: str, overwrite: bool) -> None:
    if how == "link" and _link(source, target, overwrite):
        return
    with replacing(target, argument="out", overwrite=overwrite, flush=False) as temporary:
        shutil.copyfile(source, temporary)


def _link(source: Path, target: Path, overwrite: bool) -> bool:
    """Make a hard link; False where the file system cannot."""
    place = target.with_name(f".{os.getpid()}-{target.name[-200:]}.part") if overwrite else target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(os.path.realpath(source), place)
        if overwrite:
            os.replace(place, target)
    except FileExistsError:
        raise InputError(f"out: {place} exists already") from None
    except OSError:
        return False
    return True


def _names(content: Content, flat: bool, own_stems: bool) -> list[str]:
    """Return a path for each image below the new folder: the old one if the format can hold it.

    Only COCO's keeps folders that all images have in common.
    """
    taken: Counter[str] = Counter()
    names = []
    common = os.path.commonpath([os.path.dirname(os.path.normpath(item.name)) for item in content]) if own_stems else ""
    for item in content:
        name = os.path.relpath(os.path.normpath(item.name), common or ".")
        name = name.replace(os.sep, "_") if flat else name
        stem, suffix = os.path.splitext(name)
        key, number = (stem if own_stems else name), 1
        while taken[key.casefold()]:
            number += 1
            key = f"{stem}-{number}" if own_stems else f"{stem}-{number}{suffix}"
        taken[key.casefold()] += 1
        names.append(f"{key}{suffix}" if own_stems else key)
    return names


def _renamed(names: Sequence[str], content: Content) -> int:
    """Return how many images have other paths than the old ones or their ends."""
    return sum(not f"{os.sep}{item.name}".endswith(f"{os.sep}{a}") for a, item in zip(names, content, strict=True))
