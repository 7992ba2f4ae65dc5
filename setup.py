"""Collects the headers to compile against, and runs CMake to build the two native libraries."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"](.+?)[>"]', re.M)


def find_torch() -> Path | None:
    """Return the torch to compile against: $PYRCNN_TORCH, else an importable one, else the target environment's.

    pip builds in an isolated environment, in which ``import torch`` finds nothing. ``sysconfig`` still knows the
    environment that pip installs into, so ``pip install .`` compiles against the torch that is installed there.
    """
    spec = importlib.util.find_spec("torch")
    homes = [os.environ.get("PYRCNN_TORCH"), spec and spec.origin and Path(spec.origin).parent]
    homes += [Path(sysconfig.get_path(scheme)) / "torch" for scheme in ("purelib", "platlib")]
    for home in filter(None, homes):
        if (Path(home) / "include/torch/csrc/stable/library.h").is_file():
            return Path(home)
    return None


def tested_torch() -> str:
    """Return the requirement of constraints.txt: ``-c`` does not apply to pip's isolated build environments."""
    return re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(), re.M).group()


def copy_headers(folders: list[Path], to: Path) -> None:
    """Copy the headers that ``csrc`` includes from ``folders``, directly or indirectly, into ``to`` (about 80 files).

    pip builds in a temporary environment whose path changes. Compiling against copies keeps this path out of the
    compiler's flags, and a header that is the same keeps its time, so a second build compiles nothing.
    """
    sources = [path for path in (ROOT / "csrc").rglob("*") if path.suffix in {".h", ".cpp", ".cu", ".cuh"}]
    names = {name for path in sources for name in INCLUDE.findall(path.read_text())}
    found: set[Path] = set()
    while names:
        name = names.pop()
        header = next((path for folder in folders if (path := folder / name).is_file()), None)
        if header is None or Path(name) in found:  # the compiler's own headers and those of csrc are not in folders
            continue
        found.add(Path(name))
        text = header.read_text(errors="replace")
        for included in INCLUDE.findall(text):  # relative to the including file, or to a folder of headers
            names |= {included, os.path.normpath(Path(name).parent / included)}
        copy = to / name
        if not copy.is_file() or copy.read_text(errors="replace") != text:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(header, copy)
    for path in to.rglob("*"):
        if path.is_file() and path.relative_to(to) not in found:
            path.unlink()


class CleanBuild(build):
    """Empty build/lib* first: setuptools does not, and wheels would contain modules that no longer exist."""

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class CMakeBuild(build_ext):
    """Configure, build, then install both libraries beside the package (and into the source folder when in place)."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        torch_home, python_include = find_torch(), Path(sysconfig.get_path("include"))
        if torch_home is None:
            raise SystemExit(
                "torch must be installed (2.10 or later) to build pyrcnn; or set PYRCNN_TORCH to its folder"
            )
        if not (python_include / "Python.h").is_file():
            raise SystemExit(f"Python.h must be in {python_include} to build pyrcnn; install python3-dev")
        copy_headers([torch_home / "include", Path(pybind11.get_include())], self.folder / "headers")
        # The cache holds paths and options of the last build, which may not exist or hold any more. Objects stay.
        (self.folder / "CMakeCache.txt").unlink(missing_ok=True)
        self.cmake(
            *("-S", ROOT, "-B", self.folder, "-G", "Ninja"),
            f"-DPYRCNN_HEADERS={self.folder / 'headers'}",
            f"-DPYTHON_INCLUDE={python_include}",
            f"-DMODULE_SUFFIX={sysconfig.get_config_var('EXT_SUFFIX')}",
            f"-DCMAKE_BUILD_TYPE={os.environ.get('CMAKE_BUILD_TYPE', 'Release')}",
            *os.environ.get("CMAKE_ARGS", "").split(),
        )
        self.cmake("--build", self.folder)
        self.cmake("--install", self.folder, "--prefix", Path(self.get_ext_fullpath(ext.name)).parent.resolve())

    def copy_extensions_to_source(self) -> None:
        """Install both libraries into the source folder: for ``pip install -e`` and ``build_ext --inplace``."""
        self.cmake("--install", self.folder, "--prefix", ROOT / "pyrcnn")

    @property
    def folder(self) -> Path:
        return ROOT / "build" / f"cmake-{sysconfig.get_config_var('SOABI')}"

    def cmake(self, *arguments: object) -> None:
        # pip puts cmake and ninja first on PATH. Without build isolation, they may be in an environment that is not
        # activated.
        path = os.pathsep.join([os.environ.get("PATH", ""), sysconfig.get_path("scripts")])
        command = [shutil.which("cmake", path=path) or "cmake", *map(str, arguments)]
        subprocess.run(command, check=True, env={**os.environ, "PATH": path})


setup(
    packages=find_packages(include=["pyrcnn*"]),
    ext_modules=[Extension("pyrcnn._C", sources=[])],
    cmdclass={"build": CleanBuild, "build_ext": CMakeBuild},
    setup_requires=[] if find_torch() else [tested_torch()],
)
