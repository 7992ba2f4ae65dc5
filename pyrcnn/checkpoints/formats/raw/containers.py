"""Finds the tensors in nested containers: dicts, lists, and objects that a pickle describes, whole models included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ....errors import InputError
from .unpickling import Placeholder, StandIns, Unreadable

MOST_TENSORS = 50_000  # of a source; an optimizer has two or three per weight
MOST_DEPTH = 100  # containers within containers; a module in a module of a pickled model is three
LONGEST_NAME = 500  # characters
MOST_BUFFERS = 100  # of one module
HIDDEN = "_non_persistent_buffers_set"  # names of buffers that are no part of its state


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
        inner, mine = [], set()
        for key, value in _items(node):
            if len(key) > LONGEST_NAME:
                continue
            name = path if key == "" else f"{path}{key}."
            if isinstance(value, Mapping | list | tuple):
                if (value or isinstance(value, Placeholder)) and id(value) not in seen and id(value) not in mine:
                    mine.add(id(value))
                    inner.append((name, depth + 1, value))
            elif isinstance(value, Tensor | np.ndarray):
                found.append(Entry(name[:-1], key, len(seen), Given(value)))
            elif hasattr(value, "resolve"):
                found.append(Entry(name[:-1], key, len(seen), value))
            if len(found) > MOST_TENSORS:
                raise InputError(f"source must have at most {MOST_TENSORS} tensors, got more")
        todo += reversed(inner)
    return found


def _items(node: Any) -> Iterator[tuple[str, Any]]:
    """The named contents of a container; those of a placeholder are its items and its attributes."""
    if isinstance(node, list | tuple):
        for i, value in enumerate(node):
            pair = isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str)
            yield (value[0], value[1]) if pair else (str(i), value)
        return
    if isinstance(node, Placeholder):
        # Containers of their own: two objects of a hostile file may share them, and then they are searched once.
        state = node.state if isinstance(node.state, tuple) and len(node.state) == 2 else (node.state,)
        yield from (("", part) for part in state)
        if node.name == ORDERED and node.arguments:  # Python 2 pickles the items as an argument
            yield "", node.arguments[0]
    if isinstance(node, Mapping):
        hidden: Any = node.get(HIDDEN) if HIDDEN in node else None
        for key, value in node.items():
            if key == "_buffers" and _few(hidden) and isinstance(value, dict) and len(value) <= MOST_BUFFERS:
                value = {name: buffer for name, buffer in value.items() if name not in hidden}
            if isinstance(key, str | int | float):
                yield str(key), value


def _few(names: Any) -> bool:
    return isinstance(names, list | tuple) and len(names) <= MOST_BUFFERS


def _first(items: Any = (), *_: Any) -> Any:
    return items


ORDERED = "collections.OrderedDict"
CONTAINERS: StandIns = {
    ORDERED: lambda *items: Placeholder(ORDERED, items),
    "builtins.set": _first,
    "builtins.frozenset": _first,
    "collections.defaultdict": lambda *_: {},
    "copyreg._reconstructor": lambda kind, *_: Placeholder(kind.name),
}
