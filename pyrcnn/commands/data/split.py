"""``pyrcnn data split``: COCO files for training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...atomic import check_outputs, replacing
from ...data.formats import sources
from ...data.tools import splitting
from ...data.tools.content import Content
from ...data.tools.writers import CocoFile
from .. import terminal

NAMES = ("train", "val", "test")


def run(source: str, out: Path, fractions: Sequence[float], seed: int, group: str | None, images: Path | None,
        overwrite: bool, json: bool) -> None:  # fmt: skip
    """Split, write one COCO file per part that is not empty, and print them with their counts."""
    targets = {name: out / f"{name}.json" for name, share in zip(NAMES, fractions, strict=True) if share}
    check_outputs(targets.values(), "out", overwrite=overwrite, inputs=[source])
    content = Content(sources.read(source, images))
    if content.report:
        terminal.note(*str(content.report).split("\n"))
    parts = dict(zip(NAMES, splitting.split(content, fractions, seed, group), strict=True))
    rows = []
    for name, file in targets.items():
        part = CocoFile(content)
        for position in parts[name]:
            item = content.item(position)
            part.add(item, item.name)
        with replacing(file, argument="out", overwrite=overwrite) as temporary:
            temporary.write_text(part.text(), encoding="utf-8")
        rows.append([str(file), str(len(part.images)), str(len(part.annotations))])
    if json:
        found = [{"file": file, "images": int(n), "objects": int(objects)} for file, n, objects in rows]
        terminal.print_json({"images": str(content.folder), "parts": found})
        return
    terminal.print_table(["file", "images", "objects"], rows, right=["images", "objects"])
    terminal.note(f"the images are in {content.folder}")
