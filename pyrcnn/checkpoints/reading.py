"""Fills models from weights: recognises the format of a source, reads it, and names what does not fit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from .. import models
from ..errors import InputError, require
from ..models import saved
from . import zoo
from .formats import detectron2, pickles, tensorflow, torchvision
from .report import Report, assign
from .suggest import skeleton, suggest_preset

# One module per format: ``matches(entries)`` tells whether a source has the format, ``read(model, entries)`` returns
# its tensors by the model's names. The first that matches is used. Pickled files arrive as the dict that they hold.
READERS = (saved, tensorflow, detectron2, torchvision)
CLASS_BIASES = {"head.heatmap.0.out.bias": 0, "roi.predictor.cls_score.bias": 1}  # bias → its outputs beyond classes


def load(model: nn.Module, source: Any, *, new_heads: bool = False) -> Report:
    """Copy the weights of ``source`` into ``model``; the report lists what was used, missing, unexpected, reshaped.

    ``source`` is our ``.safetensors``, a TensorFlow 2 checkpoint (prefix, folder, the zoo's ``.tar.gz``), torchvision's
    ``.pth``, detectron2's ``.pkl`` or ``.pth``, or a dict with the names of one of the last three. The format is
    recognised by content (see ``READERS``). No code in the source is executed. ``new_heads`` keeps the model's heads if
    the source has another class count. Raises :class:`pyrcnn.InputError` for anything else that does not fit; it names
    the entries and the preset that fits, and the model is unchanged. With the heads of a file of ours, the model takes
    its class names and category ids.
    """
    return _Source(source).load(model, new_heads)


def build(name: str, source: Any, **changes: Any) -> tuple[nn.Module, Report]:
    """The preset ``name`` with the weights of ``source`` (see :func:`load`), built with the source's class count.

    ``changes`` are those of :func:`pyrcnn.models.build`; ``num_classes`` must be the source's. A published file,
    recognised by its name, also sets the fields it was trained with, for example ``norm_eps=0.0`` for torchvision's
    ``fasterrcnn_resnet50_fpn_coco-258fb6c6.pth`` (the model cards list them). A file of ours sets the class names.
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
    """A source, opened once: its ``name`` in messages, its ``reader``, and the ``entries`` for the reader."""

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
                f"source: no such file: {self.name}" if lost else f"source has no known format: {self.name}"
            )
        classifier = reader in (detectron2, torchvision) and reader.is_imagenet(self.entries)
        require(not classifier, f"source: {self.name} holds a classifier: checkpoints.load_backbone takes its backbone")
        self.reader = reader

    def load(self, model: nn.Module, new_heads: bool = False) -> Report:
        state = self.reader.read(model, self.entries)
        try:
            report = assign(model, state, self.name, new_heads=new_heads)
        except InputError as error:
            if self.reader is saved:
                own = bool(saved.labels(self.entries))
                hint = "; pyrcnn.load_model(file) builds the model that the file describes" if own else ""
                raise InputError(f"{error}{hint}") from None
            hint = suggest_preset(lambda candidate: self.reader.read(candidate, self.entries))
            raise InputError(f"{error}{hint}") from None
        if self.reader is saved and not report.reshaped:  # the heads are the file's, so their classes are too
            for field, value in saved.labels(self.entries).items():
                setattr(model, field, value)
        return report
