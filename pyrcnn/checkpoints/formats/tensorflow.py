"""Reads weights of TensorFlow 2's zoo: a checkpoint's prefix or folder, the zoo's ``.tar.gz``, or a dict of arrays."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import InputError, require
from ...ops import FrozenBatchNorm2d
from ...texts import one_line
from .raw.archives import unpacked
from .tensor_bundle import ObjectGraph, TensorBundle
from .tensorflow_names import TABLES, Layer

HEADS = "model/_prediction_head_dict/"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def matches(source: Any) -> bool:
    """Whether ``source`` is a TensorFlow checkpoint: an opened one, a dict, a ``.tar.gz``, a prefix, or a folder."""
    if isinstance(source, _Arrays | _Bundle):
        return True
    if isinstance(source, Mapping):
        return any(str(key).startswith("model/") for key in source)
    if not isinstance(source, str | os.PathLike):
        return False
    path = Path(source)
    return path.name.endswith((".tar.gz", ".tgz", ".index")) or _prefix_of(path) is not None


def _prefix_of(path: Path) -> Path | None:
    """The checkpoint's prefix: ``path`` itself, or the last one in the folder or its subfolder ``checkpoint``."""
    if path.name.endswith(".index"):
        path = path.with_name(path.name[: -len(".index")])
    if path.with_name(path.name + ".index").is_file():
        return path
    for folder in (path, path / "checkpoint"):
        if folder.is_dir():
            found = [file.with_suffix("") for file in folder.glob("*.index")]
            if found:
                return max(found, key=_step)
    return None


def _step(prefix: Path) -> tuple[int, str]:
    """The number at the end of a checkpoint's name, as a number: ckpt-301 is later than ckpt-30."""
    digits = re.search(r"\d*$", prefix.name)
    return int(digits[0]) if digits and digits[0] else -1, prefix.name


class _Arrays:
    """A dict of TensorFlow key → array, with or without the keys' common suffix."""

    def __init__(self, arrays: Mapping[str, Any]):
        self._arrays = {str(key).removesuffix(SUFFIX): value for key, value in arrays.items()}

    def find(self, layer: Layer, variable: str) -> Any:
        return self._arrays.get(f"{layer.route}/{variable}")

    def keys(self) -> list[str]:
        return list(self._arrays)


class _Bundle:
    """A checkpoint on disk. Backbone layers are found by their Keras name, everything else by its route."""

    def __init__(self, prefix: Path, name: str | None):
        self._bundle = TensorBundle(prefix, name)
        self._graph: ObjectGraph = self._bundle.object_graph()
        self._named = self._graph.by_full_name("model")
        self._read: dict[str, Any] = {}

    def find(self, layer: Layer, variable: str) -> Any:
        key = self._graph.find(f"{layer.route}/{variable}")
        if key is None and layer.keras_name is not None:
            key = self._named.get(f"{layer.keras_name}/{variable}")
        if key is None or key not in self._bundle:
            return None
        require(not self._bundle.is_text(key), f"source: {one_line(key)} is text, not numbers")
        if key not in self._read:  # verify the checksum once
            self._read[key] = self._bundle[key]
        return self._read[key]

    def map(self) -> None:
        """Open every data file."""
        for key in self._bundle.keys():  # noqa: SIM118
            self._bundle.open_shard(key)

    def keys(self) -> list[str]:
        slots = ".OPTIMIZER_SLOT"
        return [key.removesuffix(SUFFIX) for key in self._bundle.keys() if slots not in key]  # noqa: SIM118


def _tensor(array: Any) -> Tensor:
    with warnings.catch_warnings():  # torch warns about read-only memory maps; nothing writes to them
        warnings.filterwarnings("ignore", message=".*not writable.*")
        try:
            return torch.from_numpy(np.asarray(array))
        except (TypeError, ValueError) as error:
            raise InputError(f"source: an array must hold numbers: {one_line(error)}") from None


def _translated(layer: nn.Module, find: Any) -> Iterator[tuple[str, Tensor]]:
    """(our parameter, its value) of one layer, with kernels permuted from (height, width, in, out) to torch's order."""
    parts: list[tuple[str, str, tuple[int, ...] | None]]
    if isinstance(layer, nn.BatchNorm2d | FrozenBatchNorm2d):
        names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        parts = [(ours, theirs, None) for ours, theirs in names.items()]
    elif isinstance(layer, nn.Linear):
        parts = [("weight", "kernel", (1, 0)), ("bias", "bias", None)]
    elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        depthwise = layer.groups == layer.in_channels > 1
        kernel = ("depthwise_kernel", (2, 3, 0, 1)) if depthwise else ("kernel", (3, 2, 0, 1))
        parts = [("weight", *kernel), ("bias", "bias", None)]
    else:  # separable: one layer with two kernels and one bias
        parts = [
            ("depthwise.weight", "depthwise_kernel", (2, 3, 0, 1)),
            ("pointwise.weight", "pointwise_kernel", (3, 2, 0, 1)),
            ("pointwise.bias", "bias", None),
        ]
    for ours, theirs, order in parts:
        array = find(theirs)
        if array is not None:
            tensor = _tensor(array)
            yield ours, tensor.permute(order) if order is not None and tensor.ndim == len(order) else tensor


def opened(source: Any) -> _Arrays | _Bundle:
    """A source for which :func:`matches` is true, opened for one or more calls of :func:`read`.

    Raises :class:`pyrcnn.InputError` for files that are missing, corrupt or truncated.
    """
    if isinstance(source, Mapping):
        return _Arrays(source)
    path = Path(source)
    if not path.name.endswith((".tar.gz", ".tgz")):
        return _bundle(path, path)
    require(path.is_file(), f"source: no such file: {path}")
    with unpacked(path) as folder:
        bundle = _bundle(folder, path)
        bundle.map()  # mapped files stay readable after the folder is deleted
        return bundle


def _bundle(path: Path, source: Path) -> _Bundle:
    prefix = _prefix_of(path)
    if prefix is None:
        raise InputError(f"source: {source} holds no TensorFlow checkpoint")
    return _Bundle(prefix, None if path == source else f"{source}: {prefix.name}")


def read(model: nn.Module, variables: _Arrays | _Bundle) -> dict[str, Tensor]:
    """The tensors of an opened checkpoint by the model's names, memory-mapped; others keep their own names.

    Heads that the model lacks get names in its ``head``, so that they are refused; an optimizer's variables are not.
    """
    family = type(model).__name__
    require(family in TABLES, f"source: no TensorFlow checkpoint is supported for {family}")
    state: dict[str, Tensor] = {}
    used = set()
    for layer in TABLES[family](model):

        def find(variable: str, layer: Layer = layer) -> Any:
            used.add(f"{layer.route}/{variable}")
            return variables.find(layer, variable)

        for name, tensor in _translated(model.get_submodule(layer.module), find):
            state[f"{layer.module}.{name}"] = tensor if layer.outputs is None else layer.outputs(tensor)
    extra = [key for key in variables.keys() if key.startswith("model/") and key not in used]  # noqa: SIM118
    return state | {key.replace(HEADS, "head.", 1): torch.empty(0) for key in extra}
