"""What a recipe is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """The settings of a training run, and what is known about the run that they reproduce."""

    config: TrainConfig
    about: str  # what it reproduces, or what it is for
    presets: tuple[str, ...] = ()  # of models; () if it is for no model in particular
    images: int = 0  # of the published training set; 0: not published, or any
    hardware: str = ""  # on which it was published
    model: Mapping[str, Any] = field(default_factory=dict)  # changes of the preset's configuration
    stages: tuple[TrainConfig, ...] = ()  # of alternating training: one for each of its four steps
    departs: str = ""  # where it differs from the published run, whatever the settings
