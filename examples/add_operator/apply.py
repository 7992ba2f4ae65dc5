"""Copies the source tree, adds the operator ``scale_boxes`` to the copy, and on request builds and tests it.

    python examples/add_operator/apply.py FOLDER            # copies, adds, and prints what is new and changed
    python examples/add_operator/apply.py FOLDER --compile  # also compiles the operator's CPU file: seconds
    python examples/add_operator/apply.py FOLDER --build    # also builds all without CUDA, and runs its tests: minutes

``files/`` has the operator's own files, at the paths where they belong. ``EDITS`` are the lines in files that exist.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = Path(__file__).parent / "files"
EDITS = {  # file → (text that is there, what is put in its place)
    "csrc/schema.cpp": (
        '  m.def("box_iou(',
        '  m.def("scale_boxes(Tensor boxes, float factor) -> Tensor");\n  m.def("box_iou(',
    ),
    "pyrcnn/ops/__init__.py": (
        "from .match_boxes import Matches, match_boxes\n",
        "from .match_boxes import Matches, match_boxes\nfrom .scale_boxes import scale_boxes\n",
    ),
    "tests/test_house.py": ('OURS = """nms_padded', 'OURS = """scale_boxes nms_padded'),
}
ALL = ('    "sigmoid_focal_loss",\n', '    "scale_boxes",\n    "sigmoid_focal_loss",\n')  # of pyrcnn.ops.__all__
TESTS = (
    ["tests/ops/test_contract.py", "tests/ops/test_derivatives.py", "tests/test_house.py", "-k", "scale_boxes"],
    ["tests/test_examples.py::test_docstrings[pyrcnn.ops.scale_boxes]"],
)


def copy(folder: Path) -> None:
    """Copy what the build and the tests need."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.pyc")
    for name in ("csrc", "cmake", "include", "third_party", "pyrcnn", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("CMakeLists.txt", "setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "conftest.py"):
        shutil.copy(ROOT / name, folder)


def add(folder: Path) -> list[str]:
    """Add the operator; return the names of the files that are new or changed."""
    new = [path.relative_to(FILES) for path in sorted(FILES.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    for path in new:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FILES / path, folder / path)
    for name, (before, after) in [*EDITS.items(), ("pyrcnn/ops/__init__.py", ALL)]:
        text = (folder / name).read_text()
        if text.count(before) != 1:
            raise SystemExit(f"EDITS: {name} must have {before!r} once")
        (folder / name).write_text(text.replace(before, after))
    return [f"new      {path}" for path in new] + [f"changed  {name}" for name in EDITS]


def compile_cpu(folder: Path) -> None:
    """Compile the operator's CPU file with headers and options of CMakeLists.txt, without linking it."""
    includes = [
        f"-I{folder / 'csrc'}",
        f"-I{folder / 'include'}",
        "-isystem",
        str(folder / "third_party/torch/include"),
    ]
    source = folder / "csrc/scale_boxes/scale_boxes_cpu.cpp"
    command = [*shlex.split(os.environ.get("CXX", "c++")), "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror"]
    options = ["-fvisibility=hidden", "-Wno-psabi", "-Wno-unknown-pragmas", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    subprocess.run([*command, *options, *includes, "-c", str(source), "-o", os.devnull], check=True)
    print("compiled csrc/scale_boxes/scale_boxes_cpu.cpp")


def build(folder: Path) -> None:
    """Build the copy without CUDA, and run the operator's tests there; those of the CUDA kernel on an emulated grid."""
    environment = {**os.environ, "CMAKE_ARGS": "-DPYRCNN_CUDA=OFF", "PYTHONPATH": str(folder)}
    log = folder / "build.log"
    with log.open("w") as output:
        subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=folder, env=environment,
                       stdout=output, stderr=subprocess.STDOUT, check=True)  # fmt: skip
    emulation = ["tests.emulation", "--operators", "scale_boxes", "tests/ops/test_contract.py", "-k", "scale_boxes"]
    for command in (*(["pytest", "-q", *tests] for tests in TESTS), emulation):
        subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--build", action="store_true")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"FOLDER must be empty or new, got {folder}")
    copy(folder)
    print("\n".join(add(folder)))
    if options.compile:
        compile_cpu(folder)
    if options.build:
        build(folder)


if __name__ == "__main__":
    main()
