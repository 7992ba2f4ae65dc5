"""The CUDA kernels without a GPU: the contract and its edges, by their sources compiled for the host."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import python
from tests.emulation import OPERATORS, build

ROOT = Path(__file__).parent.parent.parent
PROMISES = "oracle or empty or strides or hostile or written or format or gradients or channels"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("emulated"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="needs a C++ compiler")
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
        0,
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
