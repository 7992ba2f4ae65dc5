"""pyrcnn: compiled detection operators for PyTorch, and Faster R-CNN and CenterNet built on them."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from . import ops
    from ._native import build_info
    from .checkpoints.opening import load_model
    from .structures import Detections, Targets

__version__ = "0.1.0"
__all__ = ["Detections", "InputError", "Targets", "__version__", "build_info", "load_model", "ops"]

_HOMES = {  # imported when they are first used
    "Detections": ".structures",
    "Targets": ".structures",
    "build_info": "._native",
    "load_model": ".checkpoints.opening",
}


def __getattr__(name: str) -> Any:
    if name == "ops":
        return import_module(".ops", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _is_command() -> bool:
    """Whether this process was started as ``pyrcnn …`` or ``python -m pyrcnn …``."""
    program = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    module = sys.argv[:1] == ["-m"] and ("-m", "pyrcnn") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    return os.path.basename(program) in ("pyrcnn", "pyrcnn.exe") or module


# `import pyrcnn` registers torch.ops.pyrcnn, because programs that torch.export saved need it. This imports torch and
# takes a second. The command line defers it: `pyrcnn --help` needs no torch, and its commands import pyrcnn.ops. If
# _is_command is wrong, the command starts a second later, or another program of that name registers at the first use.
if not _is_command():
    from . import ops
