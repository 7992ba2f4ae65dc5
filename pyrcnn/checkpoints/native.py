"""Our own files: safetensors with the configuration, class names and category ids in the metadata."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import require
from ..models.saved import metadata, opened
from .atomic import replacing


def save(model: nn.Module, file: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
    """Write ``model`` to a ``.safetensors`` file from which ``models.load(file)`` rebuilds it, with nothing else.

    ``dtype`` (torch.float16, say) stores the weights at that precision; vectors (biases, norms and their statistics, a
    small part that loses most) stay float32. The file is written beside its place and renamed: never half there.
    """
    path = Path(file)
    require(path.suffix == ".safetensors", f"file must end in .safetensors, got {path}")
    require(not path.is_dir(), f"file is a folder: {path}")
    state = {}
    for name, value in model.state_dict().items():
        narrow = dtype is not None and value.is_floating_point() and value.ndim > 1
        state[name] = value.detach().to("cpu", dtype if narrow else value.dtype).contiguous()
    with replacing(path) as temporary:
        save_file(state, temporary, metadata=metadata(model))


def matches(source: Any) -> bool:
    """Whether ``source`` is the path of a safetensors file."""
    return isinstance(source, (str, os.PathLike)) and os.fspath(source).endswith(".safetensors")


def read(model: nn.Module, source: Any) -> dict[str, Tensor]:
    """The file's tensors by the model's names; :class:`InputError` for a damaged file and for another model's."""
    path = os.fspath(source)
    entry, state = opened(path, "source")
    if entry is not None:
        family = type(model).__name__
        require(entry["family"] == family, f"source: {path} holds a {entry['family']}, the model is a {family}")
    return state
