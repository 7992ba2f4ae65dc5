"""What ``pyrcnn detect`` reads: images and videos by name, in folders, by patterns and in lists."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath

from torch import Tensor

from ... import images
from ...checkpoints import bundled
from ...errors import InputError, require
from ...images import ImageError, video
from .. import terminal

FOLDER = "pyrcnn-detections"
_OURS = re.compile(rf"{FOLDER}(-\d+)?")  # a folder that an earlier run has created


@dataclass(frozen=True)
class Source:
    """A file to detect in. ``place`` is the folder below the output folder in which its annotated copy lies."""

    path: Path
    place: PurePath = field(default_factory=PurePath)

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by its suffix."""
        return self.path.suffix.lower() in video.SUFFIXES

    @property
    def name(self) -> str:
        """The file's name below the folder or pattern that was given."""
        return (self.place / self.path.name).as_posix()


@dataclass(frozen=True)
class Item:
    """One image to detect in: the file ``source``, a ``frame`` of it, or the ``error`` that ended a video."""

    number: int  # of the source
    source: Source
    frame: video.Frame | None = None
    error: ImageError | None = None

    def read(self) -> Tensor:
        """Return the image [3, H, W]; runs in a thread. Raises :class:`ImageError`."""
        if self.error is not None:
            raise self.error
        return images.read(self.source.path) if self.frame is None else self.frame.read()

    def __str__(self) -> str:
        if self.frame is None:
            return str(self.source.path)
        return f"{self.source.path} frame {self.frame.number} at {self.frame.time:.2f} s"


def items(sources: Sequence[Source], every: int) -> Iterator[Item]:
    """Yield the images of ``sources``, and every ``every``-th frame of the videos; an error ends a video, no more."""
    for number, source in enumerate(sources):
        if not source.is_video:
            yield Item(number, source)
            continue
        try:
            for frame in video.frames(source.path, every):
                yield Item(number, source, frame)
        except ImageError as error:
            yield Item(number, source, error=error)


def expected(sources: Sequence[Source], every: int) -> int | None:
    """Return how many images :func:`items` will yield, by what videos announce; None if one announces nothing."""
    total = 0
    for source in sources:
        try:
            found = -(-video.count(source.path) // every) if source.is_video else 1
        except ImageError:
            found = 1  # its error
        if not found:
            return None
        total += found
    return total


def find(given: Sequence[Path], out: Path | None = None) -> tuple[list[Source], list[str]]:
    """The files that ``given`` names (none: a bundled image), and a message per entry that names nothing.

    An entry is a file, a folder, a pattern such as ``pics/**/*.jpg``, or a list: ``FILE.txt`` or ``@FILE`` with one of
    the former per line. Folders are searched with their subfolders, except for ``out``, folders that earlier runs have
    created, and folders whose name begins with a dot. Without PyAV, videos among images are left out. Raises
    :class:`pyrcnn.InputError` if there is no file at all, or the only one cannot be read.
    """
    sources: list[Source] = []
    failures: list[str] = []
    for path in given or bundled.images()[:1]:
        for name, where in _listed(path, failures):
            try:
                sources += _named(name, out, failures)
            except OSError as error:
                failures.append(f"cannot read {name}: {error.strerror}{where}")
            except InputError as error:
                failures.append(f"{error}{where}")
    require(bool(sources), "; ".join(failures[:5]) or "the package holds no image: name one")
    pictures = [source for source in sources if not source.is_video]
    if len(pictures) < len(sources):
        try:
            video.check_available()
        except InputError as error:
            if not pictures:
                raise
            failures.append(f"left out {len(sources) - len(pictures)} of the files, which are videos: {error}")
            sources = pictures
    if len(given) == 1 and [source.path for source in sources] == list(given):
        (video.count if sources[0].is_video else images.check)(sources[0].path)
    return sources, failures


def _listed(path: Path, failures: list[str]) -> Iterator[tuple[Path, str]]:
    """Yield the names in ``path``, if it is a list, each with where it stands; else ``path`` itself.

    A name is taken from the current folder if there is such a file, otherwise from the folder of the list.
    """
    if path.suffix.lower() == ".txt" and not path.is_dir():
        file = path
    elif str(path).startswith("@") and not os.path.lexists(path):
        file = Path(str(path)[1:])
    else:
        yield path, ""
        return
    try:
        lines = file.read_text(errors="surrogateescape").splitlines()
    except (OSError, ValueError) as error:
        failures.append(f"cannot read the list {file}: {getattr(error, 'strerror', None) or error}")
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name = Path(line.strip())
            beside = file.parent / name
            there = os.path.lexists(beside) or (_is_pattern(name) and any(_matches(beside)))
            here = os.path.lexists(name) or not there
            yield (name if here else beside), f" (line {number} of {file})"
    if not any(line.strip() for line in lines):
        failures.append(f"the list is empty: {file}")


def _named(path: Path, out: Path | None, failures: list[str]) -> list[Source]:
    """Return what a name stands for: a file, the files in a folder, or those that a pattern matches."""
    if path.is_dir():
        found, others = [], 0
        for file in _walk(path, out, failures):
            if _is_known(file):
                found.append(Source(file, file.relative_to(path).parent))
            else:
                others += 1
        require(bool(found), f"the folder holds no image and no video: {path}")
    elif os.path.lexists(path) or not _is_pattern(path):
        require(path.exists(), f"no such file or folder: {path}")
        return [Source(path)]
    else:
        base, matches = _base(path), sorted(file for file in map(Path, _matches(path)) if not file.is_dir())
        found = [Source(file, file.relative_to(base).parent) for file in matches if _is_known(file)]
        others = len(matches) - len(found)
        require(bool(found), f"no image or video matches: {path}")
    if others:
        what = "that is no image or video" if others == 1 else "that are no images or videos"
        terminal.complain(f"{path}: skipped {others} {what} by name")
    return found


@cache
def _suffixes() -> frozenset[str]:
    return images.suffixes() | video.SUFFIXES


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in _suffixes()


def _walk(top: Path, out: Path | None, failures: list[str]) -> Iterator[Path]:
    """Yield the files in ``top`` and below, by name, files before folders; links to folders are followed once."""
    seen: set[tuple[int, int]] = set()
    if out is not None and out.is_dir() and not os.path.samefile(out, top):
        seen.add(_identity(out))
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            identity, entries = _identity(folder), sorted(folder.iterdir())
        except OSError as error:
            if folder == top:
                raise
            failures.append(f"cannot read {folder}: {error.strerror}")
            continue
        if identity in seen:
            continue
        seen.add(identity)
        below = []
        for path in entries:
            if not path.is_dir():
                yield path
            elif _OURS.fullmatch(path.name):
                terminal.complain(f"{path}: skipped the annotated copies of an earlier run")
            elif not path.name.startswith("."):
                below.append(path)
        waiting += reversed(below)


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path))


def _matches(path: Path) -> Iterator[str]:
    return glob.iglob(str(path), recursive=True)


def _base(pattern: Path) -> Path:
    """Return the folder before the first part of a pattern that has wildcards."""
    parts = pattern.parts
    return Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
