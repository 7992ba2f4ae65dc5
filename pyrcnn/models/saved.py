"""Our own file format: one safetensors file with the weights, and configuration and class names in its metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..atomic import replacing
from ..errors import InputError, require
from .presets import FAMILIES, changed

KEY = "pyrcnn"  # the metadata entry


def metadata(model: nn.Module) -> dict[str, str]:
    """The metadata from which :func:`load` rebuilds ``model`` without its weights."""
    entry = {
        "family": type(model).__name__,
        "config": asdict(model.config),  # type: ignore[call-overload]
        "classes": list(model.classes),  # type: ignore[arg-type]
        "category_ids": list(model.category_ids),  # type: ignore[arg-type]
    }
    return {KEY: json.dumps(entry)}


def save(model: nn.Module, file: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
    """Write ``model`` to a ``.safetensors`` file from which ``models.load(file)`` rebuilds it.

    ``dtype`` (for example torch.float16) stores the weights at that precision. Vectors (biases, norms and their
    statistics) stay float32: they are small and lose most. The file is complete or absent, never half-written.
    """
    path = Path(file)
    require(path.suffix == ".safetensors", f"file must end in .safetensors, got {path}")
    require(not path.is_dir(), f"file must be a file, got the folder {path}")
    state = {}
    for name, value in model.state_dict().items():
        narrow = dtype is not None and value.is_floating_point() and value.ndim > 1
        state[name] = value.detach().to("cpu", dtype if narrow else value.dtype).contiguous()
    with replacing(path) as temporary:
        save_file(state, temporary, metadata=metadata(model))


def load(file: str | os.PathLike[str], **changes: Any) -> nn.Module:
    """The model in a ``.safetensors`` file that :func:`save` wrote, in eval mode: configuration, class names, weights.

    Weights are float32. ``changes`` replace fields of the configuration that no weight's shape depends on. Raises
    :class:`pyrcnn.InputError` with the file's name if it is missing, damaged, or another program's.
    """
    path = os.fspath(file)
    entry, state = opened(path, "file")
    if entry is None:
        raise InputError(f"file: {path} names no pyrcnn model: build one and use checkpoints.load(model, file)")
    for config_type, model_type in FAMILIES.items():
        if model_type.__name__ == entry["family"]:
            model = model_type(changed(changed(config_type(), **entry["config"]), **changes))
            break
    else:
        raise InputError(f"file: {path} holds a {entry['family']}, which this version does not know")
    model.classes, model.category_ids = entry["classes"], entry["category_ids"]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        given = f" with {', '.join(f'{k}={v!r}' for k, v in changes.items())}" if changes else ""
        raise InputError(f"file: {path} does not fit its own configuration{given}: {error}") from None
    return model.eval()


def matches(source: Any) -> bool:
    """Whether ``source`` is the path of a safetensors file."""
    return isinstance(source, str | os.PathLike) and os.fspath(source).endswith(".safetensors")


def read(model: nn.Module, source: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The file's tensors by the model's names; :class:`InputError` if it is damaged or holds another kind of model."""
    path = os.fspath(source)
    entry, state = opened(path, "source")
    if entry is not None:
        family = type(model).__name__
        require(entry["family"] == family, f"source: {path} holds a {entry['family']}, the model is a {family}")
    return state


def labels(source: Any) -> Mapping[str, Any]:
    """``classes`` and ``category_ids`` as the file's metadata give them; empty if ``source`` is no file of ours."""
    entry = opened(os.fspath(source), "source", tensors=False)[0] if matches(source) else None
    return {} if entry is None else {key: entry[key] for key in ("classes", "category_ids")}


def opened(path: str, argument: str, tensors: bool = True) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """The metadata entry (None: another program's file) and the tensors of a safetensors file.

    Raises :class:`pyrcnn.InputError`, which begins with ``argument``, if the file is missing or damaged.
    """
    require(os.path.isfile(path), f"{argument}: no such file: {path}")
    try:
        with safe_open(path, framework="pt") as reader:
            entry = json.loads((reader.metadata() or {}).get(KEY, "null"))
            names = reader.keys() if tensors else ()
            return entry, {name: reader.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{argument}: {path} is damaged or no safetensors file: {error}") from None
