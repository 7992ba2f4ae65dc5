"""The pages written for the site alone: their snippets run, and no page is long."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.pages import DOCS, blocks, run_commands

WRITTEN = sorted(DOCS.rglob("*.md"))
MOST_LINES = 250


def test_the_quick_start_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    load, show, operators, faster = blocks("quickstart.md", "python")
    names: dict[str, Any] = {}
    exec(load, names)
    exec(show, names)
    assert capsys.readouterr().out.splitlines() == re.findall(r"^# (.*)", show, re.MULTILINE)
    exec(operators, names)
    assert names["kept"].tolist() == [0, 2]
    plain = len(names["detections"])
    exec(faster, names)
    assert len(names["detections"]) == plain
    assert run_commands("quickstart.md", monkeypatch, capsys) == ["pyrcnn detect"]
    assert list(Path("pyrcnn-detections").iterdir())


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_is_short(page: Path) -> None:
    """The cards of the models are a reference."""
    assert page.name == "models.md" or len(page.read_text().splitlines()) <= MOST_LINES


def test_the_way_to_install_is_that_of_the_readme() -> None:
    command = blocks("install.md", "sh")[0].strip()
    assert command in (DOCS.parent / "README.md").read_text()
    assert command in (DOCS.parent / ".ci/run").read_text()
