"""The annotated copies that ``pyrcnn detect`` writes: one file of its own for each image, none of them replaced."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..atomic import check_folder, check_outputs, replacing
from ..errors import InputError, require

FORMATS: dict[str, dict[str, Any]] = {
    "jpg": {"quality": 90},
    "png": {"compress_level": 1},
}  # Pillow's options: smaller files cost 60 ms an image
FOLDER = "pyrcnn-detections"
_LONGEST = 255  # bytes in a file's name
_JPEG_SIDE = 65500  # pixels, the most that libjpeg writes; longer images become PNG


class Copies:
    """Names and writes the annotated copies of ``images`` in the folder ``out``.

    They are named after their images, with a number from the second of a name on: ``a.jpg``, ``a-2.jpg``. Raises
    :class:`pyrcnn.InputError` at once if a copy would replace one of ``images``, or another file without
    ``overwrite``. Without ``out``, the first copy creates a new folder: ``pyrcnn-detections``, or with a number.
    """

    def __init__(self, images: Sequence[Path], out: Path | None, format: str, overwrite: bool = False):
        require(format in FORMATS, f"--format must be one of {', '.join(FORMATS)}, got {format!r}")
        self.images, self.out, self.format, self.overwrite = images, out, format, overwrite
        self.names = unique_names([path.stem for path in images], f".{format}")
        if out is None:
            check_folder(Path(), "out")
        else:
            check_folder(out, "out")
            check_outputs([out / name for name in self.names], "out", overwrite=overwrite, inputs=images)

    def write(self, number: int, picture: Image.Image) -> Path:
        """Write the copy of the image with this number and return its path."""
        if self.out is None:
            self.out = _new_folder(FOLDER)
        target, format = self.out / self.names[number], self.format
        if max(picture.size) > _JPEG_SIDE and format == "jpg":
            target, format = target.with_suffix(".png"), "png"
            check_outputs([target], "out", overwrite=self.overwrite, inputs=self.images)
        with replacing(target, argument="out", overwrite=self.overwrite, flush=False) as temporary:
            picture.save(temporary, **FORMATS[format])
        return target


def unique_names(stems: Sequence[str], suffix: str) -> list[str]:
    """A file name for each stem, all different, also where capitals do not count: ``a.jpg``, ``a-2.jpg`` …

    Stems that are alone keep their name; long ones are cut to what a file system takes.
    """
    names: list[str] = []
    taken: set[str] = set()
    next_number: dict[str, int] = {}
    whole = {_cut(stem, suffix).casefold() for stem in stems}  # nobody else gets these names
    for stem in stems:
        name = _cut(stem, suffix)
        if name.casefold() in taken:
            for number in itertools.count(next_number.get(stem, 2)):
                name = _cut(stem, f"-{number}{suffix}")
                if name.casefold() not in taken and name.casefold() not in whole:
                    next_number[stem] = number + 1
                    break
        taken.add(name.casefold())
        names.append(name)
    return names


def _cut(stem: str, end: str) -> str:
    return os.fsdecode(os.fsencode(stem)[: _LONGEST - len(end)]) + end


def _new_folder(name: str) -> Path:
    """Create and return the first of ``name``, ``name-2``, ``name-3`` … that does not exist."""
    for number in itertools.count(1):
        path = Path(name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"out: the folder {path} cannot be created: {error.strerror}") from None
        return path
    raise AssertionError  # count does not end
