"""Copies named tensors into a model, and reports what was used and what did not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.wrapping import plain_name
from ..texts import listed, printable

COUNTER = "num_batches_tracked"  # the end of names that nothing reads


class Entries(dict[str, Tensor]):
    """Tensors by the model's names; ``notes`` name the settings in which weights and model differ."""

    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """How a checkpoint's entries were used. Names are the model's; ``unexpected`` names are the checkpoint's.

    Attributes:
        source: the checkpoint.
        used: entries that were copied.
        missing: entries of the model that the checkpoint lacks.
        unexpected: entries of the checkpoint that the model lacks.
        reshaped: entries with another class count in the checkpoint; they keep the model's values.
        notes: settings in which weights and model differ.

    Example:
        >>> print(Report("a.pth", used=("backbone.weight",), missing=("head.bias",)))
        a.pth: 1 entries used
          missing: head.bias
    """

    source: str
    used: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.used)} entries used"]
        for what in ("missing", "unexpected", "reshaped"):
            if names := getattr(self, what):
                lines.append(f"  {what}: {listed(names)}")
        return "\n".join(printable(line) for line in [*lines, *(f"  note: {note}" for note in self.notes)])


def renamed(source: Mapping[str, Any], rules: Sequence[tuple[re.Pattern[str], str]]) -> dict[str, Any]:
    """``source`` with names replaced by the first of ``rules`` (pattern of the whole name, replacement) to match."""
    found = {}
    for name, value in source.items():
        matches = ((pattern.fullmatch(name), form) for pattern, form in rules)
        found[next((match.expand(form) for match, form in matches if match), name)] = value
    return found


def differences(config: Any, expected: Mapping[str, Any], whose: str) -> tuple[str, ...]:
    """A note if fields of ``config`` (such as "rpn.anchors") are not those that the weights were trained with."""
    other = []
    for path, value in expected.items():
        field = config
        for part in path.split("."):
            field = getattr(field, part, None)
        if field is not None and field != value:
            other.append(f"{path}={value!r} (the model has {field!r})")
    return (f"{whose} expect {', '.join(other)}",) if other else ()


def assign(model: nn.Module, state: Mapping[str, Tensor], source: str, *, new_heads: bool = False,
           only: tuple[str, ...] = ()) -> Report:  # fmt: skip
    """Copy ``state`` (by the model's names) into ``model`` if everything fits; otherwise the model is unchanged.

    With ``new_heads``, entries that differ only in their first dimension, the number of outputs, keep their values.
    ``only``: the prefixes of the entries to fill; others keep their values. Raises :class:`InputError` naming entries
    that are missing, have another shape, or belong to a part of the model that lacks the layer.
    """
    everything = {plain_name(name): value for name, value in model.state_dict().items()}
    own = {name: value for name, value in everything.items() if name.startswith(only or "")}
    parts = tuple(f"{name}." for name, _ in model.named_children())
    counters = {n for n in (*everything, *state) if n.endswith(COUNTER)}
    missing = [n for n in own if n not in state and n not in counters]
    unexpected = [n for n in state if n not in own and n not in counters]
    shared = [n for n in own if n in state]
    other = [n for n in shared if own[n].shape != state[n].shape]
    reshaped = [n for n in other if new_heads and own[n].shape[1:] == state[n].shape[1:]]
    wrong = [f"{n} {list(state[n].shape)} instead of {list(own[n].shape)}" for n in other if n not in reshaped]
    surplus = [n for n in unexpected if n.startswith(parts)]
    if missing:
        raise InputError(f"source: {source} lacks {listed(missing)}")
    if wrong:
        hint = "" if new_heads else " (another class count? new_heads=True keeps fresh heads)"
        raise InputError(f"source: {source} has other shapes: {listed(wrong)}{hint}")
    if surplus:
        raise InputError(f"source: {source} has layers that the model lacks: {listed(surplus)}")
    used = [n for n in shared if n not in reshaped]
    with torch.no_grad():
        for name in used:
            own[name].copy_(state[name])
    notes = state.notes if isinstance(state, Entries) else ()
    kept = tuple(n for n in everything if n not in own and n not in counters)
    return Report(source, tuple(used), kept, tuple(unexpected), tuple(reshaped), notes)
