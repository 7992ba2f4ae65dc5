"""Run the CUDA kernels on a CPU: their sources are compiled for the host, and the threads of a block take turns.

``python -m tests.emulation [pytest's arguments]`` builds them and runs tests in which CPU tensors go to the CUDA
kernels. Threads that run at once on a GPU run here in an order: forward, or as ``--order backward`` or ``--order 7``
(a seed) says. No result may depend on it. The run fails if not all threads reach a barrier, if a launch exceeds CUDA's
limits, and on undefined arithmetic. It does not test speed, caches, or races within one instruction.
"""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

HERE = Path(__file__).parent
SOURCES = HERE.parent.parent / "csrc"
HEADERS = HERE.parent.parent / "third_party/torch/include"
OPERATORS = tuple(sorted({path.relative_to(SOURCES).parts[0] for path in SOURCES.rglob("*_cuda.cu")}))
FLAGS = ["-std=c++20", "-O2", "-fPIC", "-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020a000000000000", "-ffp-contract=off",
         "-fno-sanitize-recover=all", "-U_FORTIFY_SOURCE", "-Wno-attributes", "-Wno-psabi"]  # fmt: skip
SANITIZE = "-fsanitize=undefined"


def build(folder: Path, operators: tuple[str, ...] = OPERATORS, sanitize: str = SANITIZE) -> Path:
    """Compile the kernels of these operators into ``folder``; returns the library to load."""
    include = [f"-I{HERE / 'include'}", f"-I{SOURCES}", "-isystem", str(HEADERS)]
    compiler = os.environ.get("CXX", "c++")
    folder.mkdir(parents=True, exist_ok=True)

    def compile_one(source: Path) -> Path:
        to = folder / f"{source.stem}.o"
        # grid.cpp switches stacks, which the sanitizer does not follow.
        checked = [] if source.parent == HERE else [sanitize, "-fno-sanitize=vptr"]
        subprocess.run([compiler, *FLAGS, *checked, *include, "-x", "c++", "-c", source, "-o", to], check=True)
        return to

    sources = [HERE / "grid.cpp", *(path for name in operators for path in sorted((SOURCES / name).rglob("*_cuda.cu")))]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, sources))
    library = folder / "emulated.so"
    link = ["-shared", sanitize, f"-L{Path(torch.__file__).parent / 'lib'}", "-ltorch_cpu", "-o", library]
    subprocess.run([compiler, *objects, *link], check=True)
    return library
