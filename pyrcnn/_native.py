"""Loads the compiled library: importing this module makes ``torch.ops.pyrcnn`` exist."""

from __future__ import annotations

import importlib
import platform
from pathlib import Path
from typing import Any

import torch

try:
    _C = importlib.import_module("pyrcnn._C")
except ImportError as error:
    raise ImportError(
        f"pyrcnn's native library cannot be loaded under torch {torch.__version__} ({error}). It needs torch >= 2.10; "
        "in a source checkout build it with: pip install -e . --no-build-isolation"
    ) from error

_CUDA_LIBRARY = Path(__file__).with_name("_C_cuda.so")
_cuda_loaded = False
if torch.version.cuda and _CUDA_LIBRARY.exists():
    torch.ops.load_library(_CUDA_LIBRARY)
    _cuda_loaded = True


def build_info() -> dict[str, Any]:
    """What was built and what runs: compilers, CUDA architectures, the CPU capability in use, torch's version.

    Put it into bug reports; ``pyrcnn info`` prints it. ``cpu_capability`` is the instruction set whose kernels run
    (``PYRCNN_CPU_CAPABILITY=default|avx2|avx512`` forces one), ``cpu_tiles`` what multiplies bfloat16 beside them:
    ``amx``, ``avx512_bf16`` or nothing, as where one is forced, ``cuda_kernels`` whether the CUDA library is loaded.
    """
    return {
        **_C.build_info(),
        "cuda_kernels": _cuda_loaded,
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
