"""Deprecated: :func:`pyrcnn.load_model` opens models, ``checkpoints.bundled`` lists the bundled weights and images."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from .bundled import ASSETS, DEFAULT, weights
from .bundled import images as pictures
from .opening import BUNDLED, load_model

warnings.warn(
    "pyrcnn.checkpoints.embedded is deprecated: use pyrcnn.load_model and pyrcnn.checkpoints.bundled",
    DeprecationWarning,
    stacklevel=2,
)
__all__ = ["ASSETS", "DEFAULT", "open_model", "pictures", "weights"]


def open_model(name: str | None = None, file: Path | None = None, device: str = "cpu", **changes: Any) -> nn.Module:
    """:func:`pyrcnn.load_model` with its former arguments: a file alone says which model it holds."""
    if file is not None and name is None:
        return load_model(file, device=device, **changes)
    return load_model(name, BUNDLED if file is None else file, device, **changes)
