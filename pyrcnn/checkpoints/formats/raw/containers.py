"""Finds the tensors in nested containers: dicts, lists, and objects that a pickle describes, whole models included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from .unpickling import Placeholder, StandIns, Unreadable

MOST_DEPTH = 32  # containers within containers; nobody's weights are deeper
LONGEST_NAME = 1000  # characters
INNER = ("_parameters", "_buffers", "_modules")  # where a pickled nn.Module keeps its tensors; no part of a name


class Stored(Protocol):
    """A tensor that has not been read yet."""

    def peek(self) -> Tensor:
        """A tensor of the same shape without data (device "meta")."""

    def resolve(self) -> Tensor:
        """The tensor; raises :class:`Unreadable` or an error of ``pickles.DAMAGE`` if the file does not hold it."""


class Given:
    """A tensor or array in memory."""

    def __init__(self, value: Any):
        self.value = value

    def peek(self) -> Tensor:
        """See :class:`Stored`."""
        return torch.empty(self.value.shape, device="meta")

    def resolve(self) -> Tensor:
        """See :class:`Stored`."""
        if isinstance(self.value, np.ndarray) and self.value.dtype.kind not in "fiubc":
            raise Unreadable(f"it is an array of dtype {self.value.dtype}, not of numbers")
        return torch.as_tensor(self.value)


class Entry(NamedTuple):
    """A tensor: its full name, with the names of the containers around it; its key; the number of its container."""

    name: str
    key: str
    home: int
    value: Stored


def entries_of(content: Any) -> list[Entry]:
    """Every named tensor in ``content``, each container once, in their order."""
    found: list[Entry] = []
    seen: dict[int, Any] = {}  # the containers, so that none is freed and its id used again
    todo = [("", 0, content)]
    while todo:
        path, depth, node = todo.pop()
        if id(node) in seen or depth > MOST_DEPTH or len(path) > LONGEST_NAME:
            continue
        seen[id(node)] = node
        inner = []
        for key, value in _items(node):
            name = path if key in INNER else f"{path}{key}."
            if isinstance(value, Mapping | list | tuple):
                if not value and not isinstance(value, Placeholder):
                    continue
                inner.append((name, depth + 1, value))
            elif isinstance(value, Tensor | np.ndarray):
                found.append(Entry(name[:-1], key, len(seen), Given(value)))
            elif hasattr(value, "resolve"):
                found.append(Entry(name[:-1], key, len(seen), value))
        todo += reversed(inner)
    return found


def _items(node: Any) -> Iterator[tuple[str, Any]]:
    """The named contents of a container; those of a placeholder are its items and its attributes."""
    if isinstance(node, list | tuple):
        yield from ((str(i), value) for i, value in enumerate(node))
        return
    parts: list[Any] = [node]
    if isinstance(node, Placeholder):
        parts += node.state if isinstance(node.state, tuple) else [node.state]
    for part in parts:
        if isinstance(part, Mapping):
            yield from ((key if isinstance(key, str) else str(key), value) for key, value in part.items())


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    """A dict of pairs; protocols of Python 2 give them as an argument."""
    found = Placeholder("collections.OrderedDict")
    found.update({str(key): value for key, value in pairs})
    return found


CONTAINERS: StandIns = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda *_: {},
    "copyreg._reconstructor": lambda kind, *_: Placeholder(kind.name),
}
