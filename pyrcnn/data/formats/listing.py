"""Finds the image files that other programs' annotations name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...images import suffixes


class Listing:
    """The image files below a folder, found by path, by path without suffix, and by the last part of a path.

    The folder is read when a name is looked up that is no file as it stands.
    """

    def __init__(self, folder: Path, deep: bool = True):
        self.folder, self.deep = folder, deep
        self._by_stem: dict[str, list[str]] | None = None
        self._by_name: dict[str, list[str]] = {}

    def stems(self) -> dict[str, list[str]]:
        """Return path without suffix → paths with it, all relative to the folder."""
        if self._by_stem is None:
            self._by_stem = {}
            for name in image_names(self.folder, self.deep):
                self._by_stem.setdefault(os.path.splitext(name)[0], []).append(name)
                for last in {os.path.basename(name), os.path.splitext(os.path.basename(name))[0]}:
                    self._by_name.setdefault(last, []).append(name)
        return self._by_stem

    def find(self, name: str) -> str:
        """Return the path, relative to the folder, of the image that ``name`` means; ``name`` itself if there is none.

        ``name`` may lack the suffix, as in Open Images, or may lie in a folder of another machine: the last part of
        the path then decides, if it is that of one file only.
        """
        if not name or "\0" in name or os.path.isfile(os.path.join(self.folder, name)):
            return name
        same = self.stems().get(name) or self._by_name.get(os.path.basename(name.replace("\\", "/")), [])
        return same[0] if len(same) == 1 else name


def image_names(folder: Path, deep: bool = True) -> Iterator[str]:
    """Yield the paths of the image files below ``folder``, relative to it, sorted; hidden files are left out."""
    known = suffixes()
    places = [""]
    seen: set[tuple[int, int]] = set()  # links may lead back
    found = []
    while places:
        place = places.pop()
        path = os.path.join(folder, place)
        try:
            state = os.stat(path)
            entries = [] if (state.st_dev, state.st_ino) in seen else list(os.scandir(path))
        except OSError:
            continue
        seen.add((state.st_dev, state.st_ino))
        for entry in entries:
            name = os.path.join(place, entry.name)
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                places += [name] if deep else []
            elif os.path.splitext(entry.name)[1].lower() in known:
                found.append(name)
    yield from sorted(found)
