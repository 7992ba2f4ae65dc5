"""Reads weights with the model's own names, as ``model.state_dict()`` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..report import Entries


def matches(source: Any) -> bool:
    """Whether ``source`` is a dict; whether the names are the model's, only the model tells."""
    return isinstance(source, Mapping)


def read(model: nn.Module, source: Mapping[str, Any]) -> Entries:
    """The tensors as they are."""
    return Entries(source)
