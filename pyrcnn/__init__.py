"""pyrcnn: compiled detection operators for PyTorch, and Faster R-CNN and CenterNet built on them."""

from . import ops
from ._native import build_info
from .errors import InputError
from .structures import Detections, Targets

__version__ = "0.1.0"
__all__ = ["Detections", "InputError", "Targets", "__version__", "build_info", "ops"]
