"""Runs the commands that the pages in ``docs/`` show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.test_cli import run

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a language in ``docs/PAGE``."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def run_commands(page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run the ``pyrcnn`` commands of a page in the current folder; ``> FILE`` writes their standard output."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("pyrcnn ")]
    for line in lines:
        words = shlex.split(line, comments=True)
        target = words[words.index(">") + 1] if ">" in words else None
        capsys.readouterr()
        code = run(monkeypatch, *words[1 : words.index(">") if target else None])
        shown = capsys.readouterr()
        assert code == 0, f"{line}\n{shown.err}"
        if target:
            Path(target).write_text(shown.out)
    return lines
