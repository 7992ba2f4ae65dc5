"""Weights from and to files: ``save`` writes our own format, ``load`` reads every format in ``READERS``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .. import models
from ..errors import InputError, require
from . import detectron2, native, pickles, tensorflow, torchvision
from .imagenet import load_backbone
from .native import save
from .report import Report, assign

# One module per source: ``matches(source)`` tells whether it is one of theirs, ``read(model, source)`` gives its
# tensors under the model's names. The first that matches reads. Pickled files reach them as a dict of what they hold.
READERS = (native, tensorflow, detectron2, torchvision)
HEADS = ("roi.predictor.", "head.")  # the layers whose size is the class count


def load(model: nn.Module, source: Any, *, new_heads: bool = False) -> Report:
    """Put the weights of ``source`` into ``model`` and report what was used, missing, unexpected, reshaped.

    ``source``: our ``.safetensors``; a TensorFlow 2 checkpoint (prefix, folder, the zoo's ``.tar.gz``); torchvision's
    ``.pth``; detectron2's ``.pkl`` or ``.pth``; or a dict with the names of one of the last three. It is recognised by
    its content (see ``READERS``), and nothing in it is executed. ``new_heads`` keeps fresh heads where the source has
    another class count; otherwise that is an error, as is anything else that does not fit: it is named, with the preset
    that would fit, and the model stays as it was.
    """
    if isinstance(source, Mapping):
        name = f"the given dict of {len(source)} arrays"
        entries = source if tensorflow.matches(source) else pickles.tensors(source)
    else:
        name = str(source)
        entries = pickles.read(source) if pickles.matches(source) else source
    reader = next((reader for reader in READERS if reader.matches(entries)), None)
    if reader is None:
        lost = isinstance(source, str | os.PathLike) and not os.path.exists(source)
        raise InputError(f"source: no such file: {name}" if lost else f"source is of no known format: {name}")
    if reader in (detectron2, torchvision):
        classifier = reader.is_imagenet(entries)  # type: ignore[union-attr]
        require(not classifier, f"source: {name} holds a classifier: checkpoints.load_backbone takes its backbone")
    state = reader.read(model, entries)
    try:
        return assign(model, state, name, new_heads=new_heads)
    except InputError as error:
        hint = "" if reader is native else _fitting(reader, entries)  # ours opens without a model: models.load
        raise InputError(f"{error}{hint}") from None


def _fitting(reader: Any, entries: Any) -> str:
    """ "; it fits NAME" for the preset whose parameters have the names and shapes of the checkpoint's."""
    if isinstance(entries, str | os.PathLike) and os.fspath(entries).endswith((".tar.gz", ".tgz")):
        return ""  # it would be unpacked once for each
    fits = []
    for name, config in models.PRESETS.items():
        if reader in (detectron2, torchvision) and not isinstance(config, models.FasterRCNNConfig):
            continue
        with torch.device("meta"):
            candidate = models.build(name)
            try:
                report = assign(candidate, reader.read(candidate, entries), name, new_heads=True)
            except InputError:
                continue
        if all(entry.startswith(HEADS) for entry in report.reshaped):
            fits.append((bool(report.reshaped), len(report.notes), name))
    if not fits:
        return ""
    other_classes, _, name = min(fits)
    return f"; it fits {name}" + (" with another num_classes" if other_classes else "")


__all__ = ["READERS", "Report", "load", "load_backbone", "save"]
