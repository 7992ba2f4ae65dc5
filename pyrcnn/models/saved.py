"""Our own file format: one safetensors file with the weights, and configuration and class names in its metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..atomic import check_outputs, replacing
from ..errors import InputError, needing, path_of, require
from ..texts import listed, one_line
from .configuration import MOST_CLASSES, Allowance, check_config
from .presets import FAMILIES, Config, changed, from_config
from .pretrained import Files, Pretrained
from .wrapping import plain_name, unwrap

KEY = "pyrcnn"  # the metadata entry
MOST_HEADER = 25 << 20  # bytes of a file's header: 100,000 tensors


def metadata(model: nn.Module) -> dict[str, str]:
    """The metadata from which :func:`load` rebuilds ``model`` without its weights.

    Args:
        model: a detector, which may be wrapped.

    Returns:
        one entry of JSON: family, configuration, class names, category ids.

    Raises:
        pyrcnn.InputError: for a model of another package.

    Example:
        >>> from pyrcnn import models
        >>> list(metadata(models.build("centernet_mobilenet_v2_fpn_512")))
        ['pyrcnn']
    """
    model = unwrap(model)
    good = isinstance(model, nn.Module) and all(hasattr(model, name) for name in ("config", "classes", "category_ids"))
    require(good, f"model must be a detector of pyrcnn, got {type(model).__name__}")
    entry = {
        "family": type(model).__name__,
        "config": asdict(model.config),  # type: ignore[call-overload]
        "classes": list(model.classes),  # type: ignore[arg-type]
        "category_ids": list(model.category_ids),  # type: ignore[arg-type]
    }
    return {KEY: json.dumps(entry)}


def save(model: nn.Module, file: str | os.PathLike[str], dtype: torch.dtype | None = None, *,
         overwrite: bool = True) -> None:  # fmt: skip
    """Write ``model`` to a ``.safetensors`` file from which ``models.load(file)`` rebuilds it.

    The file is complete or absent, never half-written, and has the permissions that the umask gives, or those of the
    file that it replaces.

    Args:
        model: a detector. Of a wrapped one (``torch.compile``, ``DataParallel``, ``AveragedModel``) the inner model is
            written.
        file: ends in ``.safetensors``.
        dtype: stores the weights at that precision, for example torch.float16; None: at their own. Vectors (biases,
            norms and their statistics) stay float32: they are small and lose most.
        overwrite: replace a file that exists.

    Raises:
        pyrcnn.InputError: if the file cannot be written, or exists and ``overwrite`` is False.

    Example::

        checkpoints.save(model, "first.safetensors", dtype=torch.float16)
    """
    with needing("safetensors", "checkpoints.save"):
        from safetensors.torch import save_file
    path = Path(path_of(file, "file"))
    require(path.suffix == ".safetensors", f"file must end in .safetensors, got {path}")
    floating = isinstance(dtype, torch.dtype) and dtype.is_floating_point
    require(dtype is None or floating, f"dtype must be a floating-point torch.dtype, got {dtype!r}")
    check_outputs([path], "file", overwrite=overwrite)
    model = unwrap(model)
    about = metadata(model)
    state = {}
    for name, value in model.state_dict().items():
        narrow = dtype is not None and value.is_floating_point() and value.ndim > 1
        state[plain_name(name)] = value.detach().to("cpu", dtype if narrow else value.dtype).contiguous()
    with replacing(path, argument="file", overwrite=overwrite) as temporary:
        save_file(state, temporary, metadata=about)


def load(file: str | os.PathLike[str], **changes: Any) -> nn.Module:
    """The model in a ``.safetensors`` file that :func:`save` wrote, in eval mode: configuration, class names, weights.

    Args:
        file: the file.
        changes: fields of the configuration to replace that no weight's shape depends on.

    Returns:
        the detector, float32, on the CPU.

    Raises:
        pyrcnn.InputError: with the file's name, if it is missing, damaged, or another program's.

    Example:
        >>> from pyrcnn.checkpoints import bundled
        >>> load(bundled.ASSETS / "centernet_mobilenet_v2_fpn_512.safetensors", max_detections=10).config.max_detections
        10
    """
    path = path_of(file, "file")
    entry, state = opened(path, "file")
    if entry is None:
        raise InputError(f"file: {path} names no pyrcnn model: build one and use checkpoints.load(model, file)")
    model = described(entry, state, path, from_config, **changes)
    model.classes, model.category_ids = entry["classes"], entry["category_ids"]
    _check_fit(path, model, state, changes)
    model.load_state_dict(state)
    return model.eval()


def described(entry: Mapping[str, Any], state: Mapping[str, Tensor], path: str,
              make: Callable[[Config], nn.Module], **changes: Any) -> nn.Module:  # fmt: skip
    """``make(configuration)`` for the metadata ``entry`` of a file, which has the weights ``state``.

    ``changes`` replace fields. Raises :class:`pyrcnn.InputError` if the model would be much larger than the weights.
    """
    try:
        config = changed(config_of(entry, path), **changes)
        with Allowance(state):
            return make(config)
    except Exception as error:  # a configuration that is well-formed but that no model has, or a wrong change
        if changes and isinstance(error, InputError):
            raise
        raise InputError(f"file: {path} describes no model that can be built: {one_line(error)}") from None


def config_of(entry: Mapping[str, Any], path: str) -> Config:
    """The configuration in the metadata ``entry`` of the file ``path``."""
    for config_type, model_type in FAMILIES.items():
        if model_type.__name__ == entry["family"]:
            return changed(config_type(), **entry["config"])
    raise InputError(f"file: {path} holds a {one_line(entry['family'], 100)}, which this version does not know")


def _check_fit(path: str, model: nn.Module, state: Mapping[str, Tensor], changes: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` unless ``state`` has the names and shapes of ``model``."""
    own = model.state_dict()
    shared = own.keys() & state.keys()
    wrong = {
        "lacks": [name for name in own if name not in shared],
        "has besides": [name for name in state if name not in shared],
        "has other shapes for": [name for name in own if name in shared and own[name].shape != state[name].shape],
    }
    faults = "; it ".join(f"{what} {listed(names)}" for what, names in wrong.items() if names)
    given = f" with {', '.join(f'{k}={v!r}' for k, v in changes.items())}" if changes else ""
    require(not faults, f"file: {path} does not fit its own configuration{given}: it {faults}")


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
    with needing("safetensors", f"reading {path}"):
        from safetensors import SafetensorError, safe_open
    try:
        _check_header(path)
        with safe_open(path, framework="pt") as reader:
            entry = json.loads((reader.metadata() or {}).get(KEY, "null"))
            names = reader.keys() if tensors else ()
            state = {name: reader.get_tensor(name) for name in names}
    # MemoryError and RuntimeError: tensors that are too large, JSON that is too deep
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        reason = one_line(error) or type(error).__name__
        raise InputError(f"{argument}: {path} is damaged or no safetensors file: {reason}") from None
    if entry is not None:
        try:
            _check_entry(entry)
        except InputError as error:
            raise InputError(f"{argument}: {path} has metadata that are damaged: {error}") from None
    return entry, state


def _check_header(path: str) -> None:
    """Raise ``ValueError`` unless the header, whose length the file tells, is in the file and of a sane size."""
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
    if size < 8 or length > size - 8:
        raise ValueError("the header runs past the end")
    if length > MOST_HEADER:
        raise ValueError(f"the header has {length} bytes, the limit is {MOST_HEADER}")


def _check_entry(entry: Any) -> None:
    """Raise :class:`InputError` unless ``entry`` is what :func:`metadata` writes."""
    require(isinstance(entry, dict), f"pyrcnn must be a dict, got a {type(entry).__name__}")
    lacking = [name for name in ("family", "config", "classes", "category_ids") if name not in entry]
    require(not lacking, f"pyrcnn must have {', '.join(lacking)}")
    require(isinstance(entry["family"], str), "family must be text")
    config_type = next((c for c, model_type in FAMILIES.items() if model_type.__name__ == entry["family"]), None)
    if config_type is None:  # of another version, which the caller reports
        return
    check_config(config_type, entry["config"])
    count = entry["config"].get("num_classes", config_type().num_classes)
    require(0 < count <= MOST_CLASSES, f"config.num_classes must be in 1..{MOST_CLASSES}, got {count}")
    for name, kind in (("classes", str), ("category_ids", int | str)):
        given = entry[name]
        good = isinstance(given, list) and all(isinstance(one, kind) and type(one) is not bool for one in given)
        require(good, f"{name} must be a list of {kind.__name__ if isinstance(kind, type) else kind}")
        require(len(given) == count, f"{name} must be {count}, one per class, got {len(given)}")


Pretrained.FILES = Files(save, load)
