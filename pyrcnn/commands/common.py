"""What several commands do: open the model that the options name, and read values of options."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .. import deploy, models
from ..checkpoints import zoo
from ..checkpoints.opening import BUNDLED, load_model
from ..errors import require
from .terminal import download_bar


def open_model(name: str | None, weights: str = BUNDLED, device: str = "cpu", **changes: Any) -> nn.Module:
    """:func:`pyrcnn.load_model`, with a progress bar while weights are downloaded."""
    if name is not None:
        check_name(name)
    with download_bar(zoo.URLS.get(name or "", "")) as progress:
        return load_model(name, weights, device, progress=progress, **changes)


def published_weights(name: str) -> str:
    """The file with the published weights of a model, downloaded with a progress bar."""
    with download_bar(zoo.URLS.get(name, "")) as progress:
        return str(zoo.weights(name, progress))


def check_name(name: str) -> None:
    """Raise :class:`pyrcnn.InputError` unless ``name`` is the name of a model."""
    require(name in models.names(), f"model must be one of {', '.join(models.names())}, got {name!r}")


def check_device(device: str) -> None:
    """Raise :class:`pyrcnn.InputError` if the device is not available."""
    require(device == "cpu" or torch.cuda.is_available(), f"device {device} is not available here, use cpu")


def parse_dtype(name: str | None) -> torch.dtype | str | None:
    """The dtype that ``--dtype`` names, or "auto", which :func:`pyrcnn.deploy.optimize` understands."""
    names = {str(dtype).removeprefix("torch."): dtype for dtype in deploy.DTYPES}
    if name is None or name == "auto":
        return name
    require(name in names, f"--dtype must be one of auto, {', '.join(names)}, got {name!r}")
    return names[name]


def use_threads(count: int | None) -> None:
    """Compute with ``count`` threads; None: as many as torch chooses."""
    if count is not None:
        torch.set_num_threads(count)
