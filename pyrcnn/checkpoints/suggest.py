"""Suggests the preset that a checkpoint fits, for the message when it does not fit the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .. import models
from ..errors import InputError
from .report import assign

HEADS = ("roi.predictor.", "head.")  # the layers whose size depends on the class count


class _Unfilled(TorchFunctionMode):
    """Skips random initialisation, which takes time on the meta device too."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if getattr(function, "__name__", "") in ("uniform_", "normal_"):
            return args[0] if args else given["tensor"]
        return function(*args, **given)


@lru_cache(maxsize=32)
def skeleton(config: models.Config) -> nn.Module:
    """The model of a configuration on the ``meta`` device: names and shapes without values. Do not change it."""
    with torch.device("meta"), _Unfilled():
        return models.from_config(config)


def suggest_preset(read: Callable[[nn.Module], Mapping[str, Tensor]]) -> str:
    """ "; it fits NAME" for the presets whose names and shapes are those of ``read(model)``, or an empty string."""
    fits: dict[tuple[Any, ...], list[str]] = {}
    for name, config in models.PRESETS.items():
        # presets that differ in the input size alone have the same weights: they share a skeleton
        sizeless = models.changed(config, input_size=512) if hasattr(config, "input_size") else config
        candidate = skeleton(sizeless)
        try:
            report = assign(candidate, read(candidate), name, new_heads=True)
        except InputError:
            continue
        if all(entry.startswith(HEADS) for entry in report.reshaped):
            rank = (bool(report.reshaped), len(report.unexpected), len(report.notes))
            fits.setdefault(rank, []).append(name)
    if not fits:
        return ""
    best = min(fits)
    return f"; it fits {' or '.join(fits[best])}" + (" with another num_classes" if best[0] else "")
