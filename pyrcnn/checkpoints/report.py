"""Putting named tensors into a model, with a report of what was used and what did not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import InputError

_SHOWN = 8  # names listed in a message


@dataclass(frozen=True)
class Report:
    """What became of a checkpoint's entries. Names are the model's, ``unexpected`` ones the checkpoint's.

    ``reshaped`` entries had another class count and keep the model's fresh values.
    """

    source: str
    used: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.used)} entries used"]
        for what in ("missing", "unexpected", "reshaped"):
            if names := getattr(self, what):
                lines.append(f"  {what}: {listed(names)}")
        return "\n".join(lines)


def listed(names: tuple[str, ...] | list[str]) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def assign(model: nn.Module, state: Mapping[str, Tensor], source: str, *, new_heads: bool = False,
           optional: frozenset[str] = frozenset()) -> Report:  # fmt: skip
    """Copy ``state`` (the model's names) into ``model``; nothing is changed unless everything fits.

    ``new_heads`` lets entries that differ in their first dimension alone, the number of outputs, keep their values.
    ``optional`` names may be missing. Raises :class:`InputError` that names what is missing or has another shape.
    """
    own = model.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # of no use to anyone
    missing = [n for n in own if n not in state and n not in counters]
    unexpected = [n for n in state if n not in own]
    shared = [n for n in own if n in state]
    other = [n for n in shared if own[n].shape != state[n].shape]
    reshaped = [n for n in other if new_heads and own[n].shape[1:] == state[n].shape[1:]]
    wrong = [f"{n} {list(state[n].shape)} instead of {list(own[n].shape)}" for n in other if n not in reshaped]
    absent = [n for n in missing if n not in optional]
    if absent:
        raise InputError(f"source: {source} lacks {listed(absent)}")
    if wrong:
        hint = "" if new_heads else " (another class count? new_heads=True keeps fresh heads)"
        raise InputError(f"source: {source} has other shapes: {listed(wrong)}{hint}")
    used = [n for n in shared if n not in reshaped]
    with torch.no_grad():
        for name in used:
            own[name].copy_(state[name])
    return Report(source, tuple(used), tuple(missing), tuple(unexpected), tuple(reshaped))
