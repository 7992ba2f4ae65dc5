"""Detectors for production: :func:`optimize` returns a faster copy; :func:`export` writes and :func:`load` reads files.

Programs that load an exported PyTorch file without :func:`load` import pyrcnn for its operators.
"""

from .exporting import FORMATS, export
from .loading import Exported, load
from .networks import DTYPES
from .optimized import Optimized, fastest_dtype, optimize

__all__ = ["DTYPES", "FORMATS", "Exported", "Optimized", "export", "fastest_dtype", "load", "optimize"]
