"""The examples in docstrings and in the README run and give the results that they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import pyrcnn

NATIVE_OR_RUNS = re.compile(r"pyrcnn\.(_C|lib\w+|__main__)")  # have no docstrings to test, or run when imported
FOUND = [module.name for module in pkgutil.walk_packages(pyrcnn.__path__, "pyrcnn.")]
MODULES = sorted(name for name in FOUND if not NATIVE_OR_RUNS.fullmatch(name))
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch})
    assert result.failed == 0


def test_there_are_examples() -> None:
    modules = [importlib.import_module(name) for name in MODULES]
    finder = doctest.DocTestFinder(exclude_empty=True)
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) >= 30


def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The README's Python snippets run in order, except training; the first prints what its comments show."""
    text = (ROOT / "README.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    detect, operators, training, serve = snippets
    assert "train.fit" in training
    (tmp_path / "pyrcnn").mkdir()
    (tmp_path / "pyrcnn/assets").symlink_to(Path(pyrcnn.__file__).parent / "assets")  # the snippets use this path
    monkeypatch.chdir(tmp_path)
    exec(detect, {})
    printed, shown = capsys.readouterr().out, "\n".join(re.findall(r"^# (.*)", detect, re.MULTILINE))
    assert re.findall(r"[A-Za-z]+", printed) == re.findall(r"[A-Za-z]+", shown)
    numbers = [[float(n) for n in re.findall(r"[\d.]+", text)] for text in (printed, shown)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1.0)  # boxes are rounded to pixels
    exec(operators, {})
    exec(serve.replace("(480, 640)", "(128, 128)"), {})
    assert (tmp_path / "detector.pt2").exists()
