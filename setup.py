"""Runs CMake to build the native libraries, and the Python module for one or several Pythons."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
# Other Pythons to build the module for, separated by ":"; the wheel then fits every Python. scripts/wheels sets it.
PYTHONS = list(filter(None, os.environ.get("PYRCNN_PYTHONS", "").split(":")))
QUESTION = "import sysconfig; print(sysconfig.get_path('include'), sysconfig.get_config_var('EXT_SUFFIX'), sep=';')"


def copy_changed(folder: Path, to: Path) -> None:
    """Copy the files below ``folder``; a file that is the same keeps its time, so a second build compiles nothing.

    pip builds in a temporary environment whose path changes. Compiling against copies keeps this path out of the
    compiler's flags.
    """
    for path in filter(Path.is_file, folder.rglob("*")):
        copy = to / path.relative_to(folder)
        if not copy.is_file() or not filecmp.cmp(path, copy, shallow=False):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


class CleanBuild(build):
    """Empty build/lib* first: setuptools does not, and wheels would contain modules that no longer exist."""

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class Wheel(bdist_wheel):
    """A wheel with the module for several Pythons fits every Python: the libraries know nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        return ("py3", "none", platform) if PYTHONS else (python, abi, platform)


class CMakeBuild(build_ext):
    """Configure, build, then install everything beside the package (and into the source folder when in place)."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        answers = [subprocess.check_output([p, "-c", QUESTION], text=True) for p in PYTHONS or [sys.executable]]
        includes, suffixes = zip(*(answer.strip().split(";") for answer in answers), strict=True)
        for include in includes:
            if not Path(include, "Python.h").is_file():
                raise SystemExit(f"Python.h must be in {include} to build pyrcnn; install python3-dev")
        if not (os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
            raise SystemExit("A C++20 compiler is needed to build pyrcnn: install GCC >= 11 or Clang >= 14")
        copy_changed(Path(pybind11.get_include()), self.folder / "pybind11")
        # The cache holds paths and options of the last build, which may not exist or hold any more. Objects stay.
        (self.folder / "CMakeCache.txt").unlink(missing_ok=True)
        self.cmake(
            *("-S", ROOT, "-B", self.folder, "-G", "Ninja"),
            f"-DPYBIND11_INCLUDE={self.folder / 'pybind11'}",
            f"-DPYTHON_INCLUDES={';'.join(includes)}",
            f"-DMODULE_SUFFIXES={';'.join(suffixes)}",
            f"-DCMAKE_BUILD_TYPE={os.environ.get('CMAKE_BUILD_TYPE', 'Release')}",
            *os.environ.get("CMAKE_ARGS", "").split(),
        )
        self.cmake("--build", self.folder)
        self.install(Path(self.get_ext_fullpath(ext.name)).parent.resolve())

    def copy_extensions_to_source(self) -> None:
        """Install into the source folder: for ``pip install -e`` and ``build_ext --inplace``."""
        self.install(ROOT / "pyrcnn")

    def install(self, to: Path) -> None:
        self.cmake("--install", self.folder, "--prefix", to)

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
    cmdclass={"build": CleanBuild, "build_ext": CMakeBuild, "bdist_wheel": Wheel},
)
