"""What a training starts from: a model, and its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from .. import checkpoints, models
from ..checkpoints import bundled, zoo
from ..checkpoints.opening import BUNDLED
from ..errors import require
from ..models import saved
from ..models.pretrained import downloaded, is_address
from . import terminal
from .common import check_name, published_weights

RANDOM = "random"


@dataclass(frozen=True)
class Start:
    """The ``name`` of a preset, or None for a file of ours, and the files of weights: of all, or of the backbone.

    ``weights`` is a file, "zoo" (the published ones), "random", which says that random weights are meant, or None.
    """

    name: str | None
    weights: str | None
    backbone: Path | None

    @classmethod
    def of(cls, name_or_file: str, weights: str | None, backbone: Path | None) -> Start:
        """Tell a name from a file. Raises :class:`pyrcnn.InputError` for what does not exist or go together."""
        name_or_file = downloaded(name_or_file) if is_address(name_or_file) else name_or_file
        weights = downloaded(str(weights)) if is_address(weights) else weights
        name: str | None = name_or_file
        if name_or_file not in models.names() and (Path(name_or_file).suffix or Path(name_or_file).is_file()):
            require(Path(name_or_file).is_file(), f"model: no such file: {name_or_file}")
            require(weights is None, f"--weights must be left out with a file, which holds them: {name_or_file}")
            name, weights = None, name_or_file
        else:
            check_name(name_or_file)
        if weights == BUNDLED:
            files = bundled.weights()
            require(name in files, f"--weights bundled must go with {' or '.join(files)}, got {name}")
            weights = str(files[str(name)])
        alone = backbone is None or weights in (None, RANDOM)
        require(alone, f"--backbone must be left out with --weights, which have a backbone: {weights}")
        return cls(name, weights, backbone)

    @property
    def inputs(self) -> list[str | Path]:
        """The files that are read."""
        files = [self.weights if self.weights not in (RANDOM, zoo.ZOO) else None, self.backbone]
        return [file for file in files if file is not None]

    def config(self) -> models.Config:
        """The configuration that the settings change: that of a file of ours, or the preset's."""
        own = saved.matches(self.weights)
        entry = saved.opened(str(self.weights), "--weights", tensors=False)[0] if own else None
        return models.PRESETS[str(self.name)] if entry is None else saved.config_of(entry, str(self.weights))

    def model(self, classes: Sequence[str], changes: Mapping[str, Any], freeze_norm: bool = False) -> nn.Module:
        """Build the model, fill it, and print in one line what it starts from, then what did not fit.

        Args:
            classes: of the training data.
            changes: to the configuration.
            freeze_norm: whether batch norms keep their statistics in training.

        Raises:
            pyrcnn.InputError: if a network with frozen norms starts from random weights, unless those were asked for.
        """
        weights = published_weights(str(self.name)) if self.weights == zoo.ZOO else self.weights
        if weights is not None and weights != RANDOM:
            model, report = checkpoints.build(self.name, weights, classes=classes, **changes)
            _say(f"weights of {weights}", report)
            return model
        model = models.build(str(self.name), **{"num_classes": len(classes), **changes})
        if self.backbone is not None:
            report = checkpoints.load_backbone(model, self.backbone)
            _say(f"the backbone of {self.backbone}, other layers random", report)
            return model
        frozen = freeze_norm or getattr(model.config, "norm", "") == "frozen"
        require(
            weights == RANDOM or not frozen,
            f"--weights or --backbone must be given for {self.name}, because its norms are frozen, which random "
            "weights do not fit; --weights random starts from them all the same",
        )
        terminal.note(f"starts from random weights{'' if weights else '; see --weights and --backbone'}")
        return model


def _say(what: str, report: checkpoints.Report) -> None:
    lines = str(report).split("\n")
    terminal.note(f"starts from {what}", *lines[1:])
