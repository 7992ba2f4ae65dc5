"""Loads the compiled libraries: importing this module makes ``torch.ops.pyrcnn`` exist."""

from __future__ import annotations

import platform
from typing import Any

import torch

from . import _library

_library.check_exists()
try:
    torch.ops.load_library(_library.LIBRARY)
except OSError as error:
    raise ImportError(
        f"pyrcnn's compiled library needs torch >= 2.10 and does not load under torch {torch.__version__}: {error}"
    ) from None
_BUILD = _library.build_info()

_cuda_loaded = False
if torch.version.cuda and _library.CUDA_LIBRARY.exists():
    torch.ops.load_library(_library.CUDA_LIBRARY)
    _cuda_loaded = True


def build_info() -> dict[str, Any]:
    """Return what was built and what runs: compilers, CUDA architectures, the instruction set, torch's version.

    Put it into bug reports; ``pyrcnn info`` prints it. ``cpu_best`` is the best instruction set of this processor for
    which there are kernels; ``cpu_capability`` is the one whose kernels run
    (``PYRCNN_CPU_CAPABILITY=default|avx2|avx512`` forces one). ``cuda_kernels``: whether the CUDA library is loaded.

    Returns:
        a dict of texts, numbers and lists, which JSON can hold.

    Example:
        >>> build_info()["cpu_capability"] in ("default", "avx2", "avx512")
        True
    """
    return {
        **_BUILD,
        "cuda_kernels": _cuda_loaded,
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
