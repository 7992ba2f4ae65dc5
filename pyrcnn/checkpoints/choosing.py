"""Finds the tensors among a file's content that are the model's weights, and the format whose names they have.

Training programs put weights below keys (``state_dict``, ``model``) and prefixes (``module.``, ``_orig_mod.``). None of
them is known here. Joined with dots, keys and prefixes are one thing: the beginning of a tensor's full name. For each
beginning that enough names have, the rest is read as each format's names and compared with the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import InputError
from ..models.wrapping import plain_name
from ..texts import listed, one_line
from .formats import pickles
from .formats.raw.containers import Entry
from .report import COUNTER, Entries

MOST_BEGINNINGS = 12  # dots up to which a name is cut
MOST_NAMES = 60_000  # read for one source over all attempts, 2 s
# A running average of the weights, which training programs evaluate and publish, is preferred to the weights
AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|averag|shadow)", re.IGNORECASE)
SHOWN = 4  # other places named in a note


@dataclass(frozen=True)
class Choice:
    """Where the weights are: the ``beginning`` of their full names, their ``entries``, and the format's ``reader``."""

    reader: Any
    beginning: str
    entries: dict[str, Entry]
    rank: tuple[Any, ...]
    others: tuple[str, ...] = ()

    def read(self, model: nn.Module, source: str) -> Entries:
        """The weights by the model's names; :class:`pyrcnn.InputError` names the first that the file does not hold."""
        values = {}
        for name, entry in self.entries.items():
            try:
                values[name] = entry.value.resolve()
            except pickles.DAMAGE as error:
                raise pickles.damaged(source, ValueError(f"{listed([name])}: {error}")) from None
        state = _read(self.reader, model, values)
        if state is None:
            raise InputError(f"source: {source} has tensors of unknown shapes")
        if self.others:
            taken = f"the weights are those of {_place(self.beginning)}"
            state.notes = (f"{taken}; {listed(self.others[:SHOWN])} would fit too", *state.notes)
        return state


def choose(model: nn.Module, found: Sequence[Entry], readers: Iterable[Any]) -> Choice | None:
    """The part of ``found`` that fits ``model`` best, or None if no format has its names.

    The fewest missing and misshapen entries decide; then the fewest that are left over; then an average of weights goes
    before others; then the order in the file.
    """
    shapes = {plain_name(name): value.shape for name, value in model.state_dict().items()}
    own = {name: shape for name, shape in shapes.items() if not name.endswith(COUNTER)}
    choices = []
    for beginning, entries in _parts(found, len(own)):
        peeked = {name: _peek(entry) for name, entry in entries.items()}
        values = {name: value for name, value in peeked.items() if value is not None}
        for reader in readers:
            if reader.matches(values) and (state := _read(reader, model, values)) is not None:
                hits = [name for name, shape in own.items() if name in state and state[name].shape == shape]
                known = [name for name in own if name in state]
                if not known and not hasattr(reader, "is_imagenet"):
                    continue  # any dict has the form of our own names
                classifier = hasattr(reader, "is_imagenet") and reader.is_imagenet(values)
                surplus = sum(not name.endswith(COUNTER) for name in state) - len(known)
                rank = (classifier, len(own) - len(hits), len(own) - len(known), surplus)
                choices.append(Choice(reader, beginning, entries, rank))
    if not choices:
        return None
    best = min(choices, key=lambda choice: (*choice.rank, not AVERAGED.search(choice.beginning)))
    taken = set(map(id, best.entries.values()))
    fits = [
        c.beginning for c in choices if c.rank[:3] == best.rank[:3] and not taken & set(map(id, c.entries.values()))
    ]
    others = tuple(map(_place, dict.fromkeys(fits))) if best.rank[1] < len(own) else ()
    return Choice(best.reader, best.beginning, best.entries, best.rank, others)


def first_fault(found: Iterable[Entry]) -> str:
    """What is wrong with the first tensor that has no shape, or an empty text."""
    for entry in found:
        try:
            entry.value.peek()
        except pickles.DAMAGE as error:
            return f"{one_line(entry.name)}: {one_line(error)}"
    return ""


def _place(beginning: str) -> str:
    return repr(beginning.rstrip(".")) if beginning else "the top level"


def _peek(entry: Entry) -> Tensor | None:
    try:
        return entry.value.peek()
    except pickles.DAMAGE:  # no tensor has such a shape
        return None


def _read(reader: Any, model: nn.Module, values: dict[str, Tensor]) -> Entries | None:
    """What a reader makes of ``values``; None if they have shapes that no weights of its format have."""
    try:
        return reader.read(model, values)
    except (TypeError, ValueError, RuntimeError, IndexError):
        return None


def _parts(found: Sequence[Entry], wanted: int) -> list[tuple[str, dict[str, Entry]]]:
    """(beginning, rest of the name → entry) of the groups that may be the weights, in the file's order.

    A group is what begins alike in one container, or in all: weights may be divided among dicts.
    """
    members: dict[tuple[str, int], list[Entry]] = {}
    for entry in found:
        for beginning in _beginnings(entry.name):
            for home in (entry.home, 0):
                members.setdefault((beginning, home), []).append(entry)
    least = min(wanted, len(found)) / 2
    alone = {(beginning, len(entries)) for (beginning, home), entries in members.items() if home}
    groups = [
        (len(entries), beginning, home)
        for (beginning, home), entries in members.items()
        if len(entries) >= least and (home or (beginning, len(entries)) not in alone)
    ]
    names = 0
    kept: list[tuple[str, int]] = []
    for count, beginning, home in sorted(groups, key=lambda group: abs(group[0] - wanted)):
        names += count
        if names > MOST_NAMES and kept:
            break
        kept.append((beginning, home))
    order = {group: at for at, group in enumerate(members)}
    parts = []
    for beginning, home in sorted(kept, key=order.__getitem__):
        entries: dict[str, Entry] = {}
        for entry in members[beginning, home]:
            entries.setdefault(plain_name(entry.name[len(beginning) :]), entry)
        parts.append((beginning, entries))
    return parts


def _beginnings(name: str) -> list[str]:
    """Every beginning of ``name`` that ends in a dot, and the empty one."""
    ends, at = [""], -1
    while len(ends) <= MOST_BEGINNINGS and (at := name.find(".", at + 1)) >= 0:
        ends.append(name[: at + 1])
    return ends
