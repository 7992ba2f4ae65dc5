"""Finds the torch to compile against and lets CMake build the two native libraries."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def find_torch() -> Path | None:
    """The torch to compile against: $PYRCNN_TORCH, else an importable one, else the target environment's.

    The last makes ``pip install .`` use the torch that is already installed, inside pip's build isolation too: there
    ``import torch`` finds nothing, but ``sysconfig`` still knows the environment that pip installs into.
    """
    spec = importlib.util.find_spec("torch")
    homes = [os.environ.get("PYRCNN_TORCH"), spec and spec.origin and Path(spec.origin).parent]
    homes += [Path(sysconfig.get_path(scheme)) / "torch" for scheme in ("purelib", "platlib")]
    for home in filter(None, homes):
        if (Path(home) / "include/torch/csrc/stable/library.h").is_file():
            return Path(home)
    return None


def tested_torch() -> str:
    """The exact requirement of constraints.txt: ``-c`` does not reach pip's isolated build environments."""
    return re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(), re.M).group()


class CMakeBuild(build_ext):
    """Configure, build, then install both libraries beside the package (and into the source tree when editable)."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        torch_home = find_torch()
        if torch_home is None:
            raise SystemExit(
                "pyrcnn needs torch >= 2.10 to compile against; pip install torch first, or set PYRCNN_TORCH"
            )
        build = ROOT / "build" / f"cmake-{sysconfig.get_config_var('SOABI')}"
        homes = [Path(self.get_ext_fullpath(ext.name)).parent.resolve()]
        if self.editable_mode:
            homes.append(ROOT / "pyrcnn")

        def cmake(*arguments: object) -> None:
            subprocess.run(["cmake", *map(str, arguments)], check=True)

        cmake(
            *("-S", ROOT, "-B", build, "-G", "Ninja"),
            f"-DTORCH_HOME={torch_home}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_BUILD_TYPE={os.environ.get('CMAKE_BUILD_TYPE', 'Release')}",
            *os.environ.get("CMAKE_ARGS", "").split(),
        )
        cmake("--build", build)
        for home in homes:
            cmake("--install", build, "--prefix", home)


setup(
    packages=find_packages(include=["pyrcnn*"]),
    ext_modules=[Extension("pyrcnn._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
    setup_requires=[] if find_torch() else [tested_torch()],
)
