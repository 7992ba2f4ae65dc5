"""Weights from and to files: ``save`` writes our own format, ``load`` reads every format in ``READERS``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from .. import models
from ..errors import InputError, require
from . import detectron2, native, pickles, tensorflow, torchvision, zoo
from .fitting import fitting, skeleton
from .imagenet import load_backbone
from .native import save
from .report import Report, assign

# One module per source: ``matches(entries)`` tells whether it is one of theirs, ``read(model, entries)`` gives its
# tensors under the model's names. The first that matches reads. Pickled files reach them as a dict of what they hold.
READERS = (native, tensorflow, detectron2, torchvision)
CLASS_BIASES = {"head.heatmap.0.out.bias": 0, "roi.predictor.cls_score.bias": 1}  # layer → its outputs beside classes


def load(model: nn.Module, source: Any, *, new_heads: bool = False) -> Report:
    """Put the weights of ``source`` into ``model`` and report what was used, missing, unexpected, reshaped.

    ``source``: our ``.safetensors``; a TensorFlow 2 checkpoint (prefix, folder, the zoo's ``.tar.gz``); torchvision's
    ``.pth``; detectron2's ``.pkl`` or ``.pth``; or a dict with the names of one of the last three. It is recognised by
    its content (see ``READERS``), and nothing in it is executed. ``new_heads`` keeps fresh heads where the source has
    another class count; otherwise that is an error, as is anything else that does not fit: it is named, with the preset
    that would fit, and the model stays as it was.
    """
    return _Source(source).load(model, new_heads)


def build(name: str, source: Any, **changes: Any) -> tuple[nn.Module, Report]:
    """The preset ``name`` with the weights of ``source`` (see :func:`load`) and as many classes as these have.

    ``changes`` are those of :func:`pyrcnn.models.build`; a ``num_classes`` among them must be the source's. A published
    file, known by its name, also brings the settings it was trained with (``norm_eps=0.0`` of torchvision's
    ``fasterrcnn_resnet50_fpn_coco-258fb6c6.pth``; ``pyrcnn models`` and the model cards list them).
    """
    require(name in models.names(), f"name must be one of {', '.join(models.names())}, got {name!r}")
    given = _Source(source)
    changes = zoo.with_settings(name, source, changes)
    if "num_classes" not in changes:
        state = given.reader.read(skeleton(models.changed(models.PRESETS[name], **changes)), given.entries)
        counts = [len(state[bias]) - others for bias, others in CLASS_BIASES.items() if bias in state]
        changes |= {"num_classes": counts[0]} if counts and counts[0] > 0 else {}
    model = models.build(name, **changes)
    return model, given.load(model)


class _Source:
    """A source, opened once: its ``name`` in messages, its ``reader``, and the ``entries`` which that reads."""

    def __init__(self, source: Any):
        self.entries: Any
        if tensorflow.matches(source):
            self.entries = tensorflow.opened(source)
        elif isinstance(source, Mapping):
            self.entries = pickles.tensors(source)
        else:
            self.entries = pickles.read(source) if pickles.matches(source) else source
        self.name = f"the given dict of {len(source)} arrays" if isinstance(source, Mapping) else str(source)
        reader: Any = next((reader for reader in READERS if reader.matches(self.entries)), None)
        if reader is None:
            lost = isinstance(source, str | os.PathLike) and not os.path.exists(source)
            raise InputError(
                f"source: no such file: {self.name}" if lost else f"source is of no known format: {self.name}"
            )
        classifier = reader in (detectron2, torchvision) and reader.is_imagenet(self.entries)
        require(not classifier, f"source: {self.name} holds a classifier: checkpoints.load_backbone takes its backbone")
        self.reader = reader

    def load(self, model: nn.Module, new_heads: bool = False) -> Report:
        state = self.reader.read(model, self.entries)
        try:
            return assign(model, state, self.name, new_heads=new_heads)
        except InputError as error:
            if self.reader is native:  # ours opens without a model: models.load
                raise
            family = None if self.reader is tensorflow else models.FasterRCNNConfig
            hint = fitting(lambda candidate: self.reader.read(candidate, self.entries), family)
            raise InputError(f"{error}{hint}") from None


__all__ = ["READERS", "Report", "build", "load", "load_backbone", "save"]
