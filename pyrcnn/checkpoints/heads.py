"""Heads with another class count than the weights: classes that both have by name keep their outputs' weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models.configuration import MOST_CLASSES
from ..models.labels import is_unnamed, match_classes


def class_count(model: Any, state: Mapping[str, Tensor]) -> int | None:
    """How many classes the heads in ``state`` have; None if it has no head of ``model``."""
    for layer, (before, per_class) in model.class_outputs().items():
        bias = state.get(f"{layer}.bias")
        if bias is not None and bias.ndim:
            count = (len(bias) - before) // per_class
            return count if 0 < count <= MOST_CLASSES else None
    return None


def copy_shared(model: Any, state: Mapping[str, Tensor], classes: Sequence[str]) -> list[str]:
    """Copy the outputs of the classes that ``model`` has too, by name; return their names.

    Args:
        model: a detector, with its class names.
        state: weights by the model's names.
        classes: the names of the classes in ``state``.
    """
    mine = list(model.classes)
    labels = match_classes(mine, [None] * len(mine), classes, [None] * len(classes))
    pairs = [(label, other) for label, other in enumerate(labels)
             if other is not None and not is_unnamed(mine[label], label + 1)]  # fmt: skip
    if not pairs:
        return []
    own = dict(nn.Module.state_dict(model))
    for layer, (before, per_class) in model.class_outputs().items():
        rows = [(row, row) for row in range(before)]
        rows += [(before + to * per_class + i, before + of * per_class + i)
                 for to, of in pairs for i in range(per_class)]  # fmt: skip
        into, taken = (torch.tensor(column) for column in zip(*rows, strict=True))
        for field in ("weight", "bias"):
            target = own[f"{layer}.{field}"]
            source = state[f"{layer}.{field}"].to(target)
            if len(source) == before + per_class * len(classes):
                with torch.no_grad():
                    target[into.to(target.device)] = source[taken.to(source.device)]
    return [mine[label] for label, _ in pairs]
