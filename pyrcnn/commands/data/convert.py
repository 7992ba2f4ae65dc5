"""``pyrcnn data convert``: a data set in another format."""

from __future__ import annotations

from pathlib import Path

from ...data.formats import sources
from ...data.tools import converting
from ...data.tools.content import Content
from .. import terminal


def run(source: str, out: Path, to: str, images: Path | None, place: str, split: str, overwrite: bool,
        json: bool) -> None:  # fmt: skip
    """Convert, and print what the format cannot hold and the file or folder that opens the data set."""
    content = Content(sources.read(source, images))
    if content.report:
        terminal.note(*str(content.report).split("\n"))
    with terminal.bar("converting", content.count, json) as advance:
        written = converting.convert(content, out, to, images=place, split=split, overwrite=overwrite, progress=advance)
    if json:
        terminal.print_json({"written": str(written.source), "images": content.count, "lost": written.lost})
        return
    if written.lost:
        terminal.note(f"{to} does not hold:", *(f"  {line}" for line in written.lost))
    terminal.show(written.source)
