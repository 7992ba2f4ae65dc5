"""The data set that a command's options name: ``--data``, or ``--images`` and ``--annotations``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ... import data
from ...data.formats import sources
from ...errors import require


@dataclass(frozen=True)
class Given:
    """The values of the options; ``prefix`` is ``val-`` for those of the data set to score on."""

    source: str | None
    images: Path | None
    annotations: Path | None
    prefix: str = ""

    def __bool__(self) -> bool:
        return self.source is not None or self.annotations is not None

    def files(self) -> list[Path]:
        """Return the files that are read, as far as the options tell."""
        return [Path(path) for path in (self.source, self.images, self.annotations) if path is not None]

    def open(self, prefer: Sequence[str], cache: bool = False) -> data.CocoDataset:
        """Return the data set; of a data set with splits, the first of ``prefer`` that it has, unless one is named."""
        names = f"--{self.prefix}data, or --{self.prefix}images and --{self.prefix}annotations"
        if self.source is None:
            require(self.images is not None and self.annotations is not None, f"data must be given: {names}")
            return data.coco(self.images, self.annotations, cache=cache)  # type: ignore[arg-type]
        require(self.annotations is None, f"data must be given once, got both {names}")
        images = self.images if sources.takes_images(self.source) else None
        return data.open(self.source, images, prefer=prefer, cache=cache)
