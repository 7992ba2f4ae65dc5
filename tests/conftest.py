"""Devices, seeds and readable ids shared by all tests."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch

import pyrcnn

WORKER = "PYTEST_XDIST_WORKER" in os.environ
if WORKER:  # one thread each: threads of several workers on the same cores would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C, which is tested
if "PYRCNN_EMULATION" in os.environ:  # operators on CPU tensors run CUDA kernels compiled for the host
    torch.ops.load_library(os.environ["PYRCNN_EMULATION"])


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in up to four processes if pytest-xdist is installed; ``-n 0`` runs it in one."""
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS and not config.option.collectonly
    if whole and not WORKER and getattr(config.option, "numprocesses", 0) is None and not config.option.usepdb:
        config.option.numprocesses = min(4, os.cpu_count() or 1)


def devices() -> list[str]:
    """Return the devices to test: $PYRCNN_TEST_DEVICE, else the CPU and, if there is one, the GPU."""
    pinned = os.environ.get("PYRCNN_TEST_DEVICE")
    return [pinned] if pinned else ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=devices())
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training draw no curves, which takes longer than the small models' steps; tests of them replace this."""
    if "pyrcnn.train.run_folder.curves" in sys.modules:
        monkeypatch.setattr(sys.modules["pyrcnn.train.run_folder.curves"], "draw", lambda log, picture: None)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def python(code: str, *arguments: object) -> tuple[list[str], Path]:
    """Return the command that runs ``code`` with the pyrcnn under test, and the folder to run it in.

    In the source folder, Python would import the package there first, which may have no compiled library.
    """
    path = f"import sys; sys.path.append({str(Path(__file__).parent.parent)!r})\n"
    return [sys.executable, "-c", path + code, *map(str, arguments)], Path(pyrcnn.__file__).parent.parent
