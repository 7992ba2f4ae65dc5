"""Loads the compiled library: importing this module makes ``torch.ops.pyrcnn`` exist."""

from __future__ import annotations

import importlib
import importlib.machinery
import platform
import sys
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent


def _why_not_loaded(error: ImportError) -> str:
    """The message for a library that is missing or does not load, with the remedy for each case."""
    if any((HERE / f"_C{suffix}").exists() for suffix in importlib.machinery.EXTENSION_SUFFIXES):
        return (
            f"pyrcnn's compiled library needs torch >= 2.10 and does not load under torch {torch.__version__}: {error}"
        )
    built = sorted(path.name for path in HERE.glob("_C.*"))
    text = f"pyrcnn was imported from {HERE}, which has no compiled library for Python {platform.python_version()}"
    text += f" (only {', '.join(built)})" if built else ""
    # Python searches the current folder first, so a source folder there hides an installed package.
    others = [Path(folder or ".").resolve() / "pyrcnn" for folder in sys.path]
    hidden = [str(path) for path in others if path != HERE.resolve() and any(path.glob("_C.*"))]
    if hidden:
        return (
            f"{text}; it hides the installed {hidden[0]}. Start Python in a folder other than {HERE.parent}, "
            f"or compile the library for the source folder: cd {HERE.parent} && pip install -e ."
        )
    return f"{text}. Compile it: cd {HERE.parent} && pip install -e ."


try:
    _C = importlib.import_module("pyrcnn._C")
except ImportError as error:
    raise ImportError(_why_not_loaded(error)) from (None if isinstance(error, ModuleNotFoundError) else error)

_CUDA_LIBRARY = HERE / "_C_cuda.so"
_cuda_loaded = False
if torch.version.cuda and _CUDA_LIBRARY.exists():
    torch.ops.load_library(_CUDA_LIBRARY)
    _cuda_loaded = True


def build_info() -> dict[str, Any]:
    """Return what was built and what runs: compilers, CUDA architectures, the instruction set, torch's version.

    Put it into bug reports; ``pyrcnn info`` prints it. ``cpu_best`` is the best instruction set of this processor for
    which there are kernels; ``cpu_capability`` is the one whose kernels run
    (``PYRCNN_CPU_CAPABILITY=default|avx2|avx512`` forces one). ``cuda_kernels``: whether the CUDA library is loaded.
    """
    return {
        **_C.build_info(),
        "cuda_kernels": _cuda_loaded,
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
