"""Opens a model with its weights by name, by file, or by both: the one way from Python and from the command line."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .. import models
from ..errors import InputError, path_of, require
from ..models.pretrained import SCHEME, check_device, downloaded, is_address
from . import bundled, zoo
from .download import Progress
from .reading import build

BUNDLED = "bundled"
LOG = logging.getLogger("pyrcnn")


def load_model(
    name_or_file: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | Mapping[str, Any] = BUNDLED,
    device: str | torch.device = "cpu",
    *,
    progress: Progress = lambda done, total: None,
    **changes: Any,
) -> nn.Module:
    """A detector with weights, in eval mode, on ``device``.

    Args:
        name_or_file: the name of a model (``pyrcnn models`` lists them), or a ``.safetensors`` file that
            ``checkpoints.save`` wrote, which holds the configuration too, or such a file on the Hugging Face Hub,
            ``hf://owner/name`` or ``hf://owner/name@revision``. None: the bundled Faster R-CNN.
        weights: ``"bundled"``, those that come with the package; ``"zoo"``, the published ones, downloaded into
            ``~/.cache/pyrcnn`` by the first call; ``hf://owner/name``; or a file or state dict in any format
            that ``checkpoints.load`` reads. The model is built with the class count of the weights.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or a ``torch.device``.
        progress: called as ``progress(done, total)`` with bytes while weights are downloaded.
        changes: fields of the model's configuration to replace.

    Settings in which the weights and the model differ are logged as warnings; ``checkpoints.build`` returns them.

    Raises:
        pyrcnn.InputError: if the name, a file or the device does not exist, or the weights do not fit.

    Example:
        >>> import pyrcnn
        >>> model = pyrcnn.load_model("centernet_mobilenet_v2_fpn_512", max_detections=10)
        >>> model.classes
        ['RBC', 'WBC', 'Platelets']
    """
    check_device(device)
    return _on_cpu(name_or_file, weights, progress, changes).to(device).eval()


def _on_cpu(name: Any, weights: Any, progress: Progress, changes: Mapping[str, Any]) -> nn.Module:
    name = None if name is None else path_of(name, "name_or_file")
    weights = weights if isinstance(weights, Mapping) else path_of(weights, "weights")
    if is_address(weights):
        weights = downloaded(weights)
    if is_address(name):
        name = downloaded(str(name))
    if name is not None and str(name) not in models.names():
        return _from_file(name, weights, changes)
    if isinstance(weights, Mapping):
        require(name is not None, "name_or_file must be the name of a model if weights is a dict, got None")
        return _built(str(name), weights, changes)
    if weights == BUNDLED:
        return _bundled(str(name or bundled.DEFAULT), changes)
    if str(weights) == zoo.ZOO:
        weights = zoo.weights(name, progress)
    source = os.fspath(weights)
    if name is not None:
        require(_exists(source), f"weights: no such file: {source}")
        return _built(str(name), source, changes)
    require(os.path.exists(source), f"weights: no such file: {source}")
    own = source.endswith(".safetensors")
    require(own, f"weights {source} do not say which model they belong to: name it with --model")
    return models.load(source, **changes)


def _built(name: str, source: Any, changes: Mapping[str, Any]) -> nn.Module:
    """The preset with the weights of ``source``; what differs between them is logged."""
    model, report = build(name, source, **changes)
    for note in report.notes:
        LOG.warning("%s: %s", report.source, note)
    return model


def _exists(source: str) -> bool:
    """Whether ``source`` is a file, a folder, or the prefix of a TensorFlow checkpoint."""
    return os.path.exists(source) or os.path.exists(f"{source}.index")


def _from_file(file: Any, weights: Any, changes: Mapping[str, Any]) -> nn.Module:
    """The model in our own file."""
    path = os.fspath(file)
    if not os.path.isfile(path):
        named = os.path.splitext(path)[1] or os.path.dirname(path)  # it looks like a file, not like a name
        hub = f"; a repository of the Hugging Face Hub is {SCHEME}owner/name" if path.count("/") == 1 else ""
        require(not named, f"name_or_file: no such file: {path}{hub}")
        raise InputError(f"name_or_file must be a file or one of {', '.join(models.names())}, got {path!r}")
    require(weights == BUNDLED, f"weights must be left out if name_or_file is a file, which holds them: {path}")
    own = path.endswith(".safetensors")
    require(own, f"name_or_file {path} does not say which model it holds: use load_model(name, weights={path!r})")
    return models.load(path, **changes)


def _bundled(name: str, changes: Mapping[str, Any]) -> nn.Module:
    files = bundled.weights()
    if name not in files:
        have = ", ".join(files) or "none"
        more = ", or --weights zoo for the published ones" if name in zoo.URLS else ""
        raise InputError(f"model {name} has no bundled weights (bundled: {have}): give a file with --weights{more}")
    return models.load(files[name], **changes)
