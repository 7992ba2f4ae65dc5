"""pyrcnn: compiled detection operators for PyTorch, and Faster R-CNN and CenterNet built on them."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from . import _library
from .errors import InputError

if TYPE_CHECKING:
    from . import ops
    from ._native import build_info
    from .checkpoints.opening import load_model
    from .structures import Detections, Targets
    from .torchvision_ops import provide_torchvision

__version__ = "0.1.0"  # of this package
__all__ = [
    "Detections",
    "InputError",
    "Targets",
    "__version__",
    "build_info",
    "cmake_prefix_path",
    "load_model",
    "ops",
    "provide_torchvision",
]

cmake_prefix_path = str(_library.HERE / "cmake")  # for find_package(pyrcnn)

_HOMES = {  # imported when they are first used
    "Detections": ".structures",
    "Targets": ".structures",
    "build_info": "._native",
    "load_model": ".checkpoints.opening",
    "provide_torchvision": ".torchvision_ops",
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


def _register() -> None:
    """Load the libraries, then the fake kernels and gradients of their operators."""
    ours = [module for name, module in sys.modules.items() if name.startswith(__name__ + ".")]
    # A module of ours that is importing torch will import what it needs of pyrcnn.ops, which may import it.
    importing = any(getattr(module.__spec__, "_initializing", False) for module in ours)
    try:
        import_module("._native" if importing else ".ops", __name__)
    except (ImportError, ValueError) as error:  # the import of torch itself succeeded
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)


class _RegisterWithTorch(MetaPathFinder):
    """Registers the operators as soon as torch has been imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find torch as Python does, with a loader that registers the operators at its end."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            loader, execute = spec.loader, spec.loader.exec_module

            def exec_module(module: Any) -> None:
                del loader.exec_module  # type: ignore[method-assign]
                execute(module)
                _register()

            loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


# `import pyrcnn` registers torch.ops.pyrcnn, because programs that torch.export saved need it. torch takes a second to
# import, and neither `pyrcnn --help` nor pyrcnn.numpy needs it: the operators are registered when a program imports it.
_library.check_exists()
if "torch" in sys.modules:
    from . import ops
else:
    sys.meta_path.insert(0, _RegisterWithTorch())
