"""Models ready to serve: :func:`optimize` makes a faster copy, :func:`export` a file that runs without this code."""

from .exporting import FORMATS, export
from .network import DTYPES
from .optimized import Optimized, fastest_dtype, optimize

__all__ = ["DTYPES", "FORMATS", "Optimized", "export", "fastest_dtype", "optimize"]
