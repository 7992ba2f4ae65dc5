"""The annotated copies that ``pyrcnn detect`` writes: one file of its own for each source, none of them replaced."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from ...atomic import check_folder, check_outputs, replacing
from ...errors import InputError, needing, require
from ...images.video import VideoWriter
from .sources import FOLDER, Item, Source

with needing("PIL", "drawing", "pillow"):
    from PIL import Image

FORMATS: dict[str, dict[str, Any]] = {
    "jpg": {"quality": 90},
    "png": {"compress_level": 1},
}  # Pillow's options: smaller files cost 60 ms an image
_LONGEST = 255  # bytes in a file's name
_JPEG_SIDE = 65500  # pixels, the most that libjpeg writes; longer images become PNG


class Copies:
    """Names and writes the annotated copies of ``sources`` in the folder ``out``; ``with`` finishes the last video.

    They are named after their sources, with a number from the second of a name on: ``a.jpg``, ``a-2.jpg``; those of a
    folder's subfolders lie in subfolders of the same names. Videos become ``.mp4``. Raises :class:`pyrcnn.InputError`
    at once if a copy would replace one of the sources, or another file without ``overwrite``. Without ``out``, the
    first copy creates a new folder: ``pyrcnn-detections``, or with a number.
    """

    def __init__(self, sources: Sequence[Source], out: Path | None, format: str, overwrite: bool = False):
        require(format in FORMATS, f"--image-format must be one of {', '.join(FORMATS)}, got {format!r}")
        self.out, self.format, self.overwrite = out, format, overwrite
        self.inputs = [source.path for source in sources]
        self.names = _names(sources, format)
        self._video = contextlib.ExitStack()
        self._writer: VideoWriter | None = None
        self._number = -1  # of the video that is being written
        self.videos: list[Path] = []  # those that were written
        if out is None:
            check_folder(Path(), "out")
        else:
            check_folder(out, "out")
            check_outputs([out / name for name in self.names], "out", overwrite=overwrite, inputs=self.inputs)

    def write(self, item: Item, picture: Image.Image) -> Path:
        """Write the copy of an image, or one frame of a video's copy, and return its path."""
        if self.out is None:
            self.out = _new_folder(FOLDER)
        target, format = self.out / self.names[item.number], self.format
        if item.frame is not None:
            self._write_frame(item.number, target, picture, item.frame.time)
            return target
        if max(picture.size) > _JPEG_SIDE and format == "jpg":
            target, format = target.with_suffix(".png"), "png"
            check_outputs([target], "out", overwrite=self.overwrite, inputs=self.inputs)
        with replacing(target, argument="out", overwrite=self.overwrite, flush=False) as temporary:
            picture.save(temporary, **FORMATS[format])
        return target

    def _write_frame(self, number: int, target: Path, picture: Image.Image, time: float) -> None:
        try:
            if number != self._number or self._writer is None:
                self._video.close()  # the video before is complete
                temporary = self._video.enter_context(
                    replacing(target, argument="out", overwrite=self.overwrite, flush=False)
                )
                self._writer = self._video.enter_context(VideoWriter(temporary, (picture.height, picture.width)))
                self._number = number
                self.videos.append(target)
            self._writer.write(picture, time)
        except OSError as error:
            raise InputError(f"out: {target} cannot be written: {error.strerror or error}") from None

    def __enter__(self) -> Copies:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self._video.close()
        else:  # the video is removed; it is not to blame for the error
            abandoned = _Abandoned()
            with contextlib.suppress(_Abandoned):
                self._video.__exit__(_Abandoned, abandoned, None)


class _Abandoned(Exception):
    """Ends the writing of a video."""


def _names(sources: Sequence[Source], format: str) -> list[PurePath]:
    """The path of each copy below the output folder, all different."""
    groups: dict[tuple[str, str], list[int]] = {}
    for number, source in enumerate(sources):
        suffix = ".mp4" if source.is_video else f".{format}"
        groups.setdefault((str(source.place).casefold(), suffix), []).append(number)
    names: dict[int, PurePath] = {}
    for (_, suffix), numbers in groups.items():
        unique = unique_names([sources[number].path.stem for number in numbers], suffix)
        names |= {number: sources[number].place / name for number, name in zip(numbers, unique, strict=True)}
    return [names[number] for number in range(len(sources))]


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
