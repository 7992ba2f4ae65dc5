"""The weights and pictures that come with the package, and opening a model by name, by file, or by both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import models
from ..errors import InputError, require
from . import build, zoo

ASSETS = Path(__file__).parent.parent / "assets"
DEFAULT = "faster_rcnn_mobilenet_v2_fpn"


def weights() -> dict[str, Path]:
    """The models whose weights come with the package: name → file."""
    return {path.stem: path for path in sorted(ASSETS.glob("*.safetensors"))}


def pictures() -> list[Path]:
    """The pictures that come with the package."""
    return sorted(ASSETS.glob("*.jpg"))


def open_model(name: str | None = None, file: Path | None = None, device: str = "cpu", **changes: Any) -> nn.Module:
    """A model that is ready to detect, on ``device``.

    ``file`` alone: our own file, which says which model it holds. ``name`` alone: embedded weights. Both: ``name``
    built with ``changes`` and the file's class count, filled from a file of any known format; the file "zoo" is the
    one published for ``name``, downloaded into the cache. Neither: the embedded default.
    """
    require(device == "cpu" or torch.cuda.is_available(), f"device {device} is not available here, use cpu")
    if file == zoo.ZOO:
        file = zoo.weights(name)
    if file is not None and name is None:
        own = file.suffix == ".safetensors"
        require(own, f"weights {file} do not say which model they belong to: name it with --model")
        model = models.load(file)
    elif file is not None:
        model, _ = build(str(name), file, **changes)
    else:
        name = name or DEFAULT
        require(name in models.names(), f"model must be one of {', '.join(models.names())}, got {name!r}")
        if name not in weights():
            have = ", ".join(weights()) or "none"
            more = ", or --weights zoo for the published ones" if name in zoo.URLS else ""
            raise InputError(
                f"model {name} has no embedded weights (embedded: {have}): give a file with --weights{more}"
            )
        model = models.load(weights()[name])
    return model.to(device).eval()
