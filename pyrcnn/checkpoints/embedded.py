"""Deprecated: :func:`pyrcnn.load_model` opens models, ``checkpoints.bundled`` lists the bundled weights and images."""

from __future__ import annotations

import warnings

from .bundled import ASSETS, DEFAULT, weights
from .bundled import images as pictures

warnings.warn(
    "pyrcnn.checkpoints.embedded is deprecated: use pyrcnn.load_model and pyrcnn.checkpoints.bundled",
    DeprecationWarning,
    stacklevel=2,
)
__all__ = ["ASSETS", "DEFAULT", "pictures", "weights"]
