"""Deprecated: :mod:`pyrcnn.images` reads image files."""

from __future__ import annotations

import warnings

from ..images import ImageError as PictureError
from ..images import check, read, suffixes

warnings.warn("pyrcnn.data.pictures is deprecated, use pyrcnn.images", DeprecationWarning, stacklevel=2)
SUFFIXES = suffixes()
__all__ = ["SUFFIXES", "PictureError", "check", "read"]
