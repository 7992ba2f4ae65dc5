"""One build loads under every torch from 2.10 on, because the libraries use only torch's stable C interface."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyrcnn

PACKAGE = Path(pyrcnn.__file__).parent
LIBRARIES = sorted(PACKAGE.glob("*.so"))
STABLE = re.compile(r"aoti_torch_\w+|torch_\w+")


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs binutils")
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda p: p.name.split(".")[0])
def test_undefined_symbols_are_stable(library: Path) -> None:
    listing = subprocess.check_output(["nm", "-D", "--undefined-only", library], text=True)
    symbols = [line.split()[-1].partition("@")[0] for line in listing.splitlines()]
    # C++ names (_Z…) may only come from libstdc++: torch's C++ (at::, c10::, torch::) has no stable ABI.
    unstable = [s for s in symbols if re.match(r"_ZN?K?(2at|3c10|5torch|5caffe)", s)]
    assert not unstable
    assert any(STABLE.fullmatch(s) for s in symbols)
    assert library.name.startswith("_C") or not [s for s in symbols if re.match("_?Py", s)], "needs Python"


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs binutils")
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda p: p.name.split(".")[0])
def test_libraries_carry_no_path_of_the_build_machine(library: Path) -> None:
    listing = subprocess.check_output(["readelf", "-d", library], text=True)
    paths = re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.+?)\]", listing)
    assert paths == (["$ORIGIN"] if library.name.startswith("_C") else [])
    needed = re.findall(r"NEEDED.*\[(.+?)\]", listing)
    assert "libtorch_cpu.so" in needed
    assert "libc10.so" not in needed
    assert not [name for name in needed if "python" in name]
    assert ("libtorch_cuda.so" in needed) == (library.name == "libpyrcnn_cuda.so")


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_cpu_capability_can_be_forced(capability: str) -> None:
    order = ["default", "avx2", "avx512"]
    best = pyrcnn.build_info()["cpu_best"]
    run = run_python("import pyrcnn; print(pyrcnn.build_info()['cpu_capability'])", PYRCNN_CPU_CAPABILITY=capability)
    if order.index(capability) <= order.index(best):
        assert run.stdout.strip() == capability
    else:
        assert run.returncode != 0
        assert f"up to {best}" in run.stderr


def test_importing_refuses_an_unknown_capability() -> None:
    run = run_python("import pyrcnn.ops", PYRCNN_CPU_CAPABILITY="sse9")
    assert "PYRCNN_CPU_CAPABILITY must be default, avx2 or avx512, got sse9" in run.stderr


def test_a_source_folder_without_library_names_the_package_that_it_hides(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "pyrcnn", ignore=shutil.ignore_patterns("*.so", "assets", "__pycache__"))
    # -S: an editable installation would find its library from every folder.
    path = os.pathsep.join([str(PACKAGE.parent), *sys.path])
    command = [sys.executable, "-S", "-c", "import pyrcnn"]
    run = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, text=True, capture_output=True, cwd=tmp_path)
    message = run.stderr.strip().splitlines()[-1]
    assert f"imported from {tmp_path / 'pyrcnn'}" in message
    assert f"hides the installed {PACKAGE}" in message
    assert message.endswith("pip install -e .")


@pytest.mark.parametrize("first", ["pyrcnn", "torch"])
def test_importing_pyrcnn_and_torch_in_either_order_registers_the_operators(first: str) -> None:
    second = "torch" if first == "pyrcnn" else "pyrcnn"
    code = f"import {first}, {second}, torch; print(torch.ops.pyrcnn.nms(torch.zeros(0, 4), torch.zeros(0), 0.5).shape)"
    assert run_python(code).stdout.strip() == "torch.Size([0])"


def test_importing_pyrcnn_alone_does_not_import_torch() -> None:
    assert run_python("import sys, pyrcnn; print('torch' in sys.modules)").stdout.strip() == "False"


def test_a_library_that_does_not_load_is_a_warning_when_torch_is_imported_and_an_error_when_used() -> None:
    run = run_python("import pyrcnn, torch; torch.zeros(1); pyrcnn.ops", PYRCNN_CPU_CAPABILITY="sse9")
    assert "RuntimeWarning: PYRCNN_CPU_CAPABILITY must be" in run.stderr
    assert run.stderr.strip().splitlines()[-1].startswith("ValueError: PYRCNN_CPU_CAPABILITY must be")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env={**os.environ, **environment}, text=True, capture_output=True, cwd=PACKAGE.parent
    )
