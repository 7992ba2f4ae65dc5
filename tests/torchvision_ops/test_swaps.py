"""The examples that put our operators under other packages run, and give the results of before the swap."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyrcnn

FOLDER = Path(__file__).parents[2] / "examples/swaps"
PACKAGES = {
    "ultralytics_nms": ["ultralytics"],
    "sahi_nms": ["sahi", "torchvision"],
    "supervision_nms": ["supervision"],
    "detectron2_layers": ["torchvision"],
    "torchvision_detectors": ["torchvision"],
}


def test_every_example_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*PACKAGES, "timing"}
    page = (FOLDER.parents[1] / "docs/guides/torchvision.md").read_text()
    assert all(f"python examples/swaps/{name}.py" in page for name in PACKAGES)


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_swap(name: str) -> None:
    missing = [package for package in PACKAGES[name] if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    path = os.pathsep.join([str(Path(pyrcnn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--small"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, text=True, capture_output=True, cwd=FOLDER)
    assert done.returncode == 0, done.stderr
    assert "after: " in done.stdout.splitlines()[-1]
