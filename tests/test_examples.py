"""What the docstrings and the README show runs, and gives what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import pyrcnn

NATIVE_OR_RUNS = ("pyrcnn._C", "pyrcnn._C_cuda", "pyrcnn.__main__")  # not to be imported for their docstrings
FOUND = [module.name for module in pkgutil.walk_packages(pyrcnn.__path__, "pyrcnn.")]
MODULES = sorted(name for name in FOUND if name not in NATIVE_OR_RUNS)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch})
    assert result.failed == 0


def test_there_are_examples() -> None:
    modules = [importlib.import_module(name) for name in MODULES]
    finder = doctest.DocTestFinder(exclude_empty=True)
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) >= 30


def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but training, each snippet behind the ones before it, with a model that takes less time."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 4
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(snippets[0], {})
    exec(snippets[1].replace("faster_rcnn_resnet50_fpn", "centernet_mobilenet_v2_fpn_512"), names)
    exec(snippets[3].replace("(800, 1088)", "(128, 128)"), names)
    assert (tmp_path / "detector.pt2").exists()
