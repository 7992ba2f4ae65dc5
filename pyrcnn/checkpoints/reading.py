"""Fills models from weights: recognises the format of a source, reads it, and names what does not fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from .. import models
from ..errors import InputError, require
from ..models import saved
from ..models.labels import default_labels
from ..models.presets import differing
from ..texts import listed, one_line
from . import zoo
from .choosing import Choice, choose, first_fault
from .formats import detectron2, own, pickles, safetensors_files, tensorflow, torchvision
from .formats.raw.containers import Entry, entries_of
from .heads import class_count, copy_shared
from .report import Report, assign
from .suggest import skeleton, suggest_preset

# One module per format: ``matches(entries)`` tells whether a dict has the format's names, ``read(model, entries)``
# returns its tensors by the model's names. TensorFlow's checkpoints are recognised before they are opened; among the
# others ``choosing.choose`` takes the one whose names fit the model best.
READERS = (own, tensorflow, detectron2, torchvision)  # the formats that load reads
NAMED = (own, detectron2, torchvision)


def load(model: nn.Module, source: Any, *, new_heads: bool = False) -> Report:
    """Copy the weights of ``source`` into ``model``; the report lists what was used, missing, unexpected, reshaped.

    The format is recognised by content. The weights may stand below any keys and prefixes (``state_dict``,
    ``model_state_dict``, ``module.``, ``_orig_mod.``), beside other objects; no code in the source is executed. If
    several parts of a source fit, those with the fewest missing entries are taken, then an average of weights (a key
    with "ema", "swa", "averag" or "shadow"), then the first; the report's ``notes`` name the others. With the heads of
    a file of ours, the model takes its class names and category ids.

    Args:
        model: a detector, which may be wrapped (``torch.compile``, ``DataParallel``).
        source: our ``.safetensors``, a TensorFlow 2 checkpoint (prefix, folder, the zoo's ``.tar.gz``), or weights with
            the model's, torchvision's or detectron2's names in a ``.pth``, ``.pkl`` or ``.safetensors`` file, in
            several files with an index (``model.safetensors.index.json``), or in a dict.
        new_heads: keep the model's heads if the source has another class count.

    Raises:
        pyrcnn.InputError: for anything that does not fit; it names the entries and the preset that fits, and the model
            is unchanged.

    Example:
        >>> from pyrcnn import models
        >>> model = models.build("centernet_mobilenet_v2_fpn_512", num_classes=2)
        >>> load(model, model.state_dict()).missing
        ()
    """
    return _Source(source).load(models.unwrap(model), new_heads)


def build(
    name: str | None, source: Any, *, classes: Sequence[str] | None = None, **changes: Any
) -> tuple[nn.Module, Report]:
    """The preset ``name`` with the weights of ``source`` (see :func:`load`), built with the source's class count.

    A file of ours brings its own configuration and class names: ``name`` must be of its family, with its backbone and
    keypoints, or None. The report notes the other fields in which they differ. A published file, recognised by its
    name, sets the fields that it was trained with, for example ``norm_eps=0.0`` for torchvision's
    ``fasterrcnn_resnet50_fpn_coco-258fb6c6.pth`` (the model cards list them).

    Args:
        name: a name of :func:`pyrcnn.models.names`.
        source: see :func:`load`.
        classes: the names of the model's classes. A source without names, which has as many classes, gets them. If the
            source has another number of classes, the heads start anew, but for classes that the source has too.
        changes: those of :func:`pyrcnn.models.build`; ``num_classes`` must be the source's without ``classes``.

    Returns:
        the model and the report of :func:`load`.

    Raises:
        pyrcnn.InputError: as :func:`load`, for an unknown name, and for a file of another model.

    Example::

        model, report = checkpoints.build("faster_rcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth")
    """
    known = name is None or name in models.names()
    require(known, f"name must be one of {', '.join(models.names())}, got {name!r}")
    given = _Source(source)
    if given.metadata is None:
        require(name is not None, f"source: {given.name} does not say which model it holds: name must be given")
        changes = zoo.with_settings(str(name), source, changes)
    had = given.classes(name, changes)
    preset = models.PRESETS.get(str(name))
    if given.is_from_detectron2() and preset.normalization != detectron2.CONVENTIONS["normalization"]:  # type: ignore[union-attr]
        asked = models.changed(preset, **changes)  # type: ignore[arg-type]
        changes = zoo.with_numerics_of_detectron2(str(name), changes)
        brought = models.changed(preset, **changes)  # type: ignore[arg-type]
        given.notes += _changes("weights from detectron2 bring its settings", asked, brought)
    new = classes is not None and len(classes) != len(had) and changes.get("num_classes") in (None, len(classes))
    if new or had:
        changes.setdefault("num_classes", len(classes) if new else len(had))  # type: ignore[arg-type]
    given.load(given.model(name, changes, skeleton), classes is not None)  # a model is built only for weights that fit
    model = given.model(name, changes, models.from_config)
    if new or (classes is not None and given.metadata is None):  # such a file has no names
        model.classes = list(classes)  # type: ignore[arg-type, assignment]
    return model, given.load(model, classes is not None)


def _kind(config: models.Config) -> str:
    joints = getattr(config, "joints", 0)
    keypoints = f" and {joints} keypoints" if joints else ""
    return f"{models.FAMILIES[type(config)].__name__} with the backbone {config.backbone}{keypoints}"


def _changes(what: str, config: models.Config, other: models.Config) -> tuple[str, ...]:
    """A note on the fields in which ``other`` is not ``config``; the number of classes does not count."""
    names = [f"{name}={new!r} (not {old!r})" for name, old, new in differing(config, other) if name != "num_classes"]
    return (f"{what}: {listed(names)}",) if names else ()


class _Source:
    """A source, opened once: its ``name`` in messages, and what it holds."""

    def __init__(self, source: Any):
        self.name = f"the given dict of {len(source)} arrays" if isinstance(source, Mapping) else str(source)
        self.metadata: Mapping[str, Any] | None = None  # of our own file
        self.variables: Any = None  # TensorFlow's
        self.found: list[Entry] = []
        self.choice: Choice | None = None
        self.notes: tuple[str, ...] = ()  # for the report
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

    def model(self, name: str | None, changes: Mapping[str, Any], make: Callable[[models.Config], nn.Module]) -> Any:
        """``make(configuration)``: that of our own file, otherwise the preset's, with ``changes``."""
        if self.metadata is None:
            return make(models.changed(models.PRESETS[str(name)], **changes))
        weights = {entry.name: entry.value.resolve() for entry in self.found}
        return saved.described(self.metadata, weights, self.name, make, **changes)

    def classes(self, name: str | None, changes: Mapping[str, Any]) -> list[str]:
        """The names of the classes that the weights have; empty if that cannot be told."""
        if self.metadata is not None:
            self._check_name(name, changes)
            return self._names(nn.Identity(), {})
        model = self.model(name, changes, skeleton)
        return self._names(model, self.read(model))

    def is_from_detectron2(self) -> bool:
        """Whether the weights, once read, are those of a detector of detectron2."""
        return self.choice is not None and self.choice.reader is detectron2

    def _names(self, model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
        """The names of the classes in ``state``: those in the metadata, or the usual ones of so many classes."""
        if self.metadata is not None:
            return list(self.metadata["classes"])
        count = class_count(model, state)
        return default_labels(count)[0] if count else []

    def _check_name(self, name: str | None, changes: Mapping[str, Any]) -> None:
        """Refuse a preset that is another kind of model than our own file holds; note the fields that differ."""
        of_file = saved.config_of(self.metadata or {}, self.name)
        if name is not None:
            preset = models.PRESETS[name]
            holds = f"source: {self.name} holds a {_kind(of_file)}"
            require(_kind(of_file) == _kind(preset), f"{holds}, which is no {name}: leave the name out, or correct it")
            self.notes += _changes("the file brings its own configuration", preset, of_file)
        self.notes += _changes("changed from the file's configuration", of_file, models.changed(of_file, **changes))

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
        notes = self.notes
        if report.reshaped:
            kept = copy_shared(model, state, self._names(model, state))
            notes += (f"classes that keep their weights: {listed(kept) or 'none'}; the others start anew",)
        elif self.metadata is not None:  # the heads are the file's, so their classes are too
            model.classes, model.category_ids = self.metadata["classes"], self.metadata["category_ids"]
        return replace(report, notes=(*report.notes, *notes))
