"""A model in one safetensors file: its weights, and its configuration and class names in the file's metadata."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import InputError, require
from .presets import FAMILIES, changed

KEY = "pyrcnn"  # the metadata entry


def metadata(model: nn.Module) -> dict[str, str]:
    """What a weights file must say besides the weights so that :func:`load` needs nothing else."""
    entry = {
        "family": type(model).__name__,
        "config": asdict(model.config),  # type: ignore[call-overload]
        "classes": list(model.classes),  # type: ignore[arg-type]
        "category_ids": list(model.category_ids),  # type: ignore[arg-type]
    }
    return {KEY: json.dumps(entry)}


def opened(path: str, argument: str) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """The metadata entry (None: not ours) and the tensors of a safetensors file.

    Raises :class:`pyrcnn.InputError`, which begins with the caller's ``argument``, where it is missing or damaged.
    """
    require(os.path.isfile(path), f"{argument}: no such file: {path}")
    try:
        with safe_open(path, framework="pt") as reader:
            entry = json.loads((reader.metadata() or {}).get(KEY, "null"))
            return entry, {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{argument}: {path} is damaged or no safetensors file: {error}") from None


def load(file: str | os.PathLike[str]) -> nn.Module:
    """The model saved in a ``.safetensors`` file of ours: configuration, class names and weights (as float32).

    Raises :class:`pyrcnn.InputError` naming the file where it is missing, damaged, or another program's.
    """
    path = os.fspath(file)
    entry, state = opened(path, "file")
    if entry is None:
        raise InputError(f"file: {path} holds no pyrcnn model: load it into one with checkpoints.load(model, file)")
    for config_type, model_type in FAMILIES.items():
        if model_type.__name__ == entry["family"]:
            model = model_type(changed(config_type(), **entry["config"]))
            break
    else:
        raise InputError(f"file: {path} holds a {entry['family']}, which this version does not know")
    model.classes, model.category_ids = entry["classes"], entry["category_ids"]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"file: {path} does not fit its own configuration: {error}") from None
    return model.eval()
