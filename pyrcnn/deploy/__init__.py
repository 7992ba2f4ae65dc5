"""Detectors for production: :func:`optimize` returns a faster copy, :func:`export` writes a file.

Programs that load an exported PyTorch file import pyrcnn for its operators.
"""

from .exporting import FORMATS, export
from .networks import DTYPES
from .optimized import Optimized, fastest_dtype, optimize

__all__ = ["DTYPES", "FORMATS", "Optimized", "export", "fastest_dtype", "optimize"]
