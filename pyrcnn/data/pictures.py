"""Deprecated: :mod:`pyrcnn.images` reads image files."""

from __future__ import annotations

import warnings

from ..images import SUFFIXES, check, read
from ..images import ImageError as PictureError

warnings.warn("pyrcnn.data.pictures is deprecated, use pyrcnn.images", DeprecationWarning, stacklevel=2)
__all__ = ["SUFFIXES", "PictureError", "check", "read"]
