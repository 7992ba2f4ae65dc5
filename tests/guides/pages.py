"""Takes pages apart into blocks, runs the blocks, and compares or writes the output that they show.

The convention: ``sh`` and ``python`` blocks run in order in an empty folder that holds links to ``examples/`` and
``pyrcnn/assets/``; the Python blocks of a page share their names. A ``text`` block behind one is its standard output.
A comment on the line before a block changes this:

- ``<!-- not run: REASON -->``: the block is only shown. REASONS are listed below.
- ``<!-- needs: PACKAGE … -->``: the block runs where these packages are installed.
- ``<!-- numbers vary -->`` before a ``text`` block: only its words are compared.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyrcnn

ROOT = Path(__file__).parents[2]
TESTED_ELSEWHERE = {"detect", "hub", "numpy", "serving"}  # in tests/detect, tests/hub and tests/install
PAGES = [
    path
    for folder in ("guides", "understanding")
    for path in sorted((ROOT / "docs" / folder).glob("*.md"))
    if path.stem not in TESTED_ELSEWHERE
]
REASONS = ("network", "GPU", "several machines", "your files", "minutes", "a fragment")
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```\n", re.M | re.S)
RUN = ("sh", "python")


@dataclass
class Block:
    """A code block of a page, and the ``text`` block behind it."""

    language: str
    code: str
    mark: str
    output: str | None = None
    varies: bool = False
    span: tuple[int, int] = (0, 0)  # of the output's text in the page

    @property
    def runs(self) -> bool:
        """Whether the block is one that is run."""
        return self.language in RUN and not self.mark.startswith("not run")

    @property
    def missing(self) -> list[str]:
        """The packages that it needs and that are not installed."""
        names = self.mark.removeprefix("needs:").split() if self.mark.startswith("needs:") else []
        return [name for name in names if importlib.util.find_spec(name) is None]


def blocks(text: str) -> list[Block]:
    """The code blocks of a page, in order."""
    result: list[Block] = []
    end = -1
    for found in BLOCK.finditer(text):
        mark = found["mark"] or ""
        follows = result and found["language"] == "text" and not text[end : found.start()].strip()
        if follows and result[-1].language in RUN and result[-1].output is None:
            result[-1].output, result[-1].varies = found["code"], mark == "numbers vary"
            result[-1].span = found.span("code")
        else:
            result.append(Block(found["language"], found["code"], mark))
        end = found.end()
    return result


@contextlib.contextmanager
def checkout(folder: Path) -> Iterator[dict[str, str]]:
    """Make ``folder`` a place to run blocks in, and enter it; yields the environment of its commands."""
    (folder / "pyrcnn").mkdir()
    (folder / "pyrcnn/assets").symlink_to(Path(pyrcnn.__file__).parent / "assets")
    (folder / "examples").symlink_to(ROOT / "examples")
    commands = folder.parent / (folder.name + "-bin")
    commands.mkdir()
    for name, module in (("python", ""), ("pyrcnn", "-m pyrcnn"), ("torchrun", "-m torch.distributed.run")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(Path(pyrcnn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    wanted = {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": path, "COLUMNS": "120",
              "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield {**os.environ, **wanted, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    finally:
        os.chdir(before)


def run(block: Block, environment: dict[str, str], names: dict[str, object]) -> str:
    """Run a block in the current folder and return what it printed."""
    if block.language == "python":
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(block.code, names)
        return printed.getvalue()
    command = ["bash", "-euo", "pipefail", "-c", block.code]
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, f"{block.code}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def words(text: str) -> list[str]:
    """What is compared of an output whose numbers vary: the words."""
    return re.findall(r"[^\W\d_]{2,}", re.sub(r"\d[\d.,]*\s*(?:ns|us|µs|ms|s|min|h|MB|GB)\b", "", text))


def lines(text: str) -> list[str]:
    """What is compared of any other output: the lines, without spaces at their ends."""
    return [line.rstrip() for line in text.rstrip().splitlines()]


def run_page(path: Path, folder: Path, check: Callable[[Block, str], None]) -> list[str]:
    """Run the blocks of a page in an empty folder; ``check`` gets each and its output. Returns the missing packages."""
    names: dict[str, object] = {}
    missing: list[str] = []
    with checkout(folder) as environment:
        for block in filter(lambda block: block.runs, blocks(path.read_text())):
            if block.missing:
                missing += block.missing
                continue
            check(block, run(block, environment, names))
    return missing


def compare(block: Block, printed: str) -> None:
    """Raise AssertionError if a block prints something else than the page shows."""
    if block.output is None:
        return
    taken = words if block.varies else lines
    assert taken(printed) == taken(block.output), f"{block.code}\nprints\n{printed}"
