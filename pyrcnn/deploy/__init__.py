"""Models ready to serve: :func:`optimize` makes a faster copy, :func:`export` a file that runs without this code."""

from .optimized import Optimized, fastest_dtype, optimize

__all__ = ["Optimized", "fastest_dtype", "optimize"]
