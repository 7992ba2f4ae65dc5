"""Where the compiled libraries lie, and what to say if they are missing. Imports nothing of torch."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import platform
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIBRARY = HERE / "libpyrcnn.so"  # schemas and CPU kernels
CUDA_LIBRARY = HERE / "libpyrcnn_cuda.so"


def check_exists() -> None:
    """Raise ImportError, with the remedy, if this folder has no compiled library."""
    if LIBRARY.exists():
        return
    text = f"pyrcnn was imported from {HERE}, which has no compiled library"
    # Python searches the current folder first, so a source folder there hides an installed package.
    others = [Path(folder or ".").resolve() / "pyrcnn" for folder in sys.path]
    hidden = [str(path) for path in others if path != HERE.resolve() and (path / LIBRARY.name).exists()]
    if hidden:
        raise ImportError(
            f"{text}; it hides the installed {hidden[0]}. Start Python in a folder other than {HERE.parent}, "
            f"or compile the library for the source folder: cd {HERE.parent} && pip install -e ."
        )
    raise ImportError(f"{text}. Compile it: cd {HERE.parent} && pip install -e .")


def build_info() -> dict[str, Any]:
    """Return what the loaded library says of itself; ValueError if no operator can run on this processor.

    torch's libraries must be in the process.
    """
    library = ctypes.CDLL(str(LIBRARY))
    for function in (library.pyrcnn_build_info, library.pyrcnn_error):
        function.restype = ctypes.c_char_p
    error = library.pyrcnn_error().decode().partition("\n")[0]
    if error:
        raise ValueError(error)
    return json.loads(library.pyrcnn_build_info())


def instruction_set_error(needed: str) -> str:
    """Return why this processor cannot run what was compiled for ``needed`` ("default", "avx2" …), or ""."""
    function = ctypes.CDLL(str(LIBRARY)).pyrcnn_instruction_set_error
    function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_char_p]
    return function(needed.encode()).decode()


def load_libtorch() -> None:
    """Load ``libtorch_cpu.so`` of the installed torch into the process, without importing torch."""
    if "torch" in sys.modules:
        return
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise ImportError("pyrcnn needs torch >= 2.10: pip install torch")
    try:
        ctypes.CDLL(str(Path(spec.origin).parent / "lib" / "libtorch_cpu.so"))
    except OSError:  # a CUDA build of torch finds NVIDIA's libraries in Python
        importlib.import_module("torch")


def python() -> str:
    """Return the Python's name in messages."""
    return f"{platform.python_implementation()} {platform.python_version()}"
