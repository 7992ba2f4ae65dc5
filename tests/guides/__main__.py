"""Writes the output that pages show: ``python -m tests.guides docs/guides/evaluate.md …``.

An image below ``<!-- picture: FILE -->`` is copied from the folder in which the page ran.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from tests.guides.pages import Block, blocks, run_page


def write(path: Path) -> None:
    """Run the page and put what its blocks print into it."""
    printed: dict[str, str] = {}

    def note(block: Block, output: str) -> None:
        print(f"$ {block.code}{output}", flush=True)
        printed[block.code] = "\n".join(line.rstrip() for line in output.rstrip().splitlines()) + "\n"

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "work").mkdir()
        missing = run_page(path, Path(folder) / "work", note)
        for made, shown in re.findall(r"<!-- picture: (.+?) -->\n!\[.*?\]\((.+?)\)", path.read_text()):
            shutil.copyfile(Path(folder) / "work" / made, path.parent / shown)
    if missing:
        print(f"{path}: not run, because these are not installed: {', '.join(missing)}")
    text = path.read_text()
    for block in reversed(blocks(text)):
        if block.output is not None and block.code in printed:
            text = text[: block.span[0]] + printed[block.code] + text[block.span[1] :]
    path.write_text(text)


for name in sys.argv[1:]:
    write(Path(name).resolve())
