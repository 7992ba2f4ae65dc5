"""Fills models from weights: recognises the format of a source, reads it, and names what does not fit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .. import models
from ..errors import InputError, require
from ..models.configuration import MOST_CLASSES
from ..texts import one_line
from . import zoo
from .choosing import Choice, choose, first_fault
from .formats import detectron2, own, pickles, safetensors_files, tensorflow, torchvision
from .formats.raw.containers import Entry, entries_of
from .report import Report, assign
from .suggest import skeleton, suggest_preset

# One module per format: ``matches(entries)`` tells whether a dict has the format's names, ``read(model, entries)``
# returns its tensors by the model's names. TensorFlow's checkpoints are recognised before they are opened; among the
# others ``choosing.choose`` takes the one whose names fit the model best.
READERS = (own, tensorflow, detectron2, torchvision)
NAMED = (own, detectron2, torchvision)
CLASS_BIASES = {"head.heatmap.0.out.bias": 0, "roi.predictor.cls_score.bias": 1}  # bias → its outputs beyond classes


def load(model: nn.Module, source: Any, *, new_heads: bool = False) -> Report:
    """Copy the weights of ``source`` into ``model``; the report lists what was used, missing, unexpected, reshaped.

    ``source`` is our ``.safetensors``, a TensorFlow 2 checkpoint (prefix, folder, the zoo's ``.tar.gz``), or weights
    with the model's, torchvision's or detectron2's names in a ``.pth``, ``.pkl`` or ``.safetensors`` file, in several
    files with an index (``model.safetensors.index.json``), or in a dict. The format is recognised by content.

    The weights may stand below any keys and prefixes (``state_dict``, ``model_state_dict``, ``module.``,
    ``_orig_mod.``), beside other objects; no code in the source is executed. If several parts of a source fit, those
    with the fewest missing entries are taken, then an average of weights (a key with "ema", "swa", "averag" or
    "shadow"), then the first; the report's ``notes`` name the others.

    ``model`` may be wrapped (``torch.compile``, ``DataParallel``). ``new_heads`` keeps the model's heads if the source
    has another class count. Raises :class:`pyrcnn.InputError` for anything else that does not fit; it names the entries
    and the preset that fits, and the model is unchanged. With the heads of a file of ours, the model takes its class
    names and category ids.
    """
    return _Source(source).load(models.unwrap(model), new_heads)


def build(name: str, source: Any, **changes: Any) -> tuple[nn.Module, Report]:
    """The preset ``name`` with the weights of ``source`` (see :func:`load`), built with the source's class count.

    ``changes`` are those of :func:`pyrcnn.models.build`; ``num_classes`` must be the source's. A published file,
    recognised by its name, also sets the fields it was trained with, for example ``norm_eps=0.0`` for torchvision's
    ``fasterrcnn_resnet50_fpn_coco-258fb6c6.pth`` (the model cards list them). A file of ours sets the class names.
    """
    require(name in models.names(), f"name must be one of {', '.join(models.names())}, got {name!r}")
    given = _Source(source)
    changes = zoo.with_settings(name, source, changes)
    config = models.changed(models.PRESETS[name], **changes)
    if "num_classes" not in changes:
        state = given.read(skeleton(config))
        biases = ((state.get(bias), others) for bias, others in CLASS_BIASES.items())
        counts = [len(bias) - others for bias, others in biases if bias is not None and bias.ndim]
        changes |= {"num_classes": counts[0]} if counts and 0 < counts[0] <= MOST_CLASSES else {}
        config = models.changed(config, **changes)
    given.load(skeleton(config))  # a model is built only for weights that fit it
    model = models.build(name, **changes)
    return model, given.load(model)


class _Source:
    """A source, opened once: its ``name`` in messages, and what it holds."""

    def __init__(self, source: Any):
        self.name = f"the given dict of {len(source)} arrays" if isinstance(source, Mapping) else str(source)
        self.metadata: Mapping[str, Any] | None = None  # of our own file
        self.variables: Any = None  # TensorFlow's
        self.found: list[Entry] = []
        self.choice: Choice | None = None
        if tensorflow.matches(source):
            self.variables = tensorflow.opened(source)
        elif isinstance(source, Mapping):
            self.found = entries_of(source)
        elif safetensors_files.matches(source):
            self.metadata, self.found = safetensors_files.entries(source)
        elif pickles.matches(source):
            self.found = pickles.entries(source)
        else:
            lost = isinstance(source, str | os.PathLike) and not os.path.exists(source)
            raise InputError(f"source: no such file: {self.name}" if lost else self._unknown)

    @property
    def _unknown(self) -> str:
        return f"source has no known format: {self.name}"

    def read(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The tensors by the names of ``model``; the first call decides which of the source's tensors they are."""
        if self.variables is not None:
            return tensorflow.read(model, self.variables)
        if self.metadata is not None:
            family, mine = one_line(self.metadata["family"], 100), type(model).__name__
            require(family == mine, f"source: {self.name} holds a {family}, the model is a {mine}")
        if self.choice is None:
            self.choice = choose(model, self.found, NAMED)
            if self.choice is None:
                raise self._error(first_fault(self.found))
            require(
                not self.choice.rank[0],
                f"source: {self.name} holds a classifier: checkpoints.load_backbone takes its backbone",
            )
        return self.choice.read(model, self.name)

    def _error(self, fault: str) -> InputError:
        """The error for a source without names that the model or a format has."""
        if fault:
            return pickles.damaged(self.name, ValueError(fault))
        nothing = f"source: {self.name} lacks every entry of the model"
        return InputError(self._unknown if self.metadata is None else nothing)

    def load(self, model: nn.Module, new_heads: bool = False) -> Report:
        state = self.read(model)
        try:
            report = assign(model, state, self.name, new_heads=new_heads)
        except InputError as error:
            if self.metadata is not None:
                hint = "; pyrcnn.load_model(file) builds the model that the file describes"
            else:
                hint = suggest_preset(self.read)
            raise InputError(f"{error}{hint}") from None
        if self.metadata is not None and not report.reshaped:  # the heads are the file's, so their classes are too
            model.classes, model.category_ids = self.metadata["classes"], self.metadata["category_ids"]
        return report
