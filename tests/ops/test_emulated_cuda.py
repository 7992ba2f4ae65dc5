"""Test the CUDA kernels without a GPU: compile their sources for the host, and run the contract tests on them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tests.conftest import python
from tests.emulation import OPERATORS, build
from tests.emulation.sizes import Results, all_results

ROOT = Path(__file__).parent.parent.parent
PROMISES = "oracle or empty or strides or hostile or written or format or gradients or any_number or edges"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("emulated"))


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="needs a C++ compiler"),
]


@pytest.fixture(scope="module")
def expected() -> Results:
    return all_results()


@pytest.mark.parametrize("together", [True, False], ids=["one launch", "several"])
@pytest.mark.parametrize("order", ["forward", "backward", "3", "7"])
def test_sizes_at_which_kernels_change(
    library: Path, expected: Results, tmp_path: Path, order: str, together: bool
) -> None:
    """``together`` is false for a device that cannot run all blocks of a grid at once: there are more launches then."""
    code = "import runpy\nrunpy.run_module('tests.emulation.sizes', run_name='__main__')"
    command, folder = python(code, tmp_path / "results.pt")
    environment = {**os.environ, "PYRCNN_EMULATION": str(library), "PYRCNN_EMULATION_ORDER": order}
    if not together:
        environment["PYRCNN_EMULATION_ALONE"] = "1"
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    actual = torch.load(tmp_path / "results.pt")
    assert actual.keys() == expected.keys()
    for name, tensors in expected.items():
        for a, b in zip(actual[name], tensors, strict=True):
            torch.testing.assert_close(
                a, b, rtol=0, atol=0, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize("order", ["forward", "backward", "5"])
def test_the_contract_whatever_the_order_of_threads(library: Path, order: str) -> None:
    selection = f"({' or '.join(OPERATORS)}) and ({PROMISES})"
    code = "import pytest\nsys.exit(pytest.main(sys.argv[1:]))"
    settings = (
        "-c",
        ROOT / "pyproject.toml",
        "--rootdir",
        ROOT,
        "-p",
        "no:cacheprovider",
        "-n",
        min(4, os.cpu_count() or 1),
        "-q",
        "-k",
        selection,
    )
    tests = [ROOT / "tests/ops" / name for name in ("test_contract.py", "test_channels.py")]
    command, folder = python(code, *settings, *tests)
    environment = {**os.environ, "PYRCNN_EMULATION": str(library), "PYRCNN_EMULATION_ORDER": order}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
