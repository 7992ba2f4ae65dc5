"""Random changes of arguments. All draws come from one generator, so that a seed gives the same call again."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor

from tests.ops import checks

SMALL = (*range(-3, 10), 15, 16, 17, 31, 32, 33, 100, 255, 257)
LARGE = (1000, 32767, 32768, 65535, 65536, 65537)  # at most one of a call, because two of them fill the memory
HUGE = (2**31 - 1, 2**31, 2**32, 2**40, 2**53 + 1, 2**58, 2**60, 2**61, 2**62, 2**63 - 1, -(2**31), -(2**63),
        0x6DB6DB6DB6DB6DB7, 2**64, -(2**70))  # fmt: skip
REALS = (math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 0.5, 1.0, 2.0, 1e-30, 1e30, -1e30, 1e308, 2.0**24 + 2, 2.0**31)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int8,
          torch.uint8, torch.bool, torch.complex64)  # fmt: skip
COPIED = 1 << 17  # elements of a tensor that is changed twice, at most
OTHERS = (None, "text", [], {}, (1, 2), 1.5, True, torch.zeros(()), torch.zeros(0), object)


class Mutator:
    """Changes the arguments of one call.

    ``kept`` says whether the values are still those of the original; ``plain``, whether they are other ones that a
    reference implementation can take: no extreme values, sizes or types.
    """

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.kept = self.plain = True
        self.large = False

    def integer(self, value: int) -> int:
        kind = self.rng.random()
        if kind < 0.5:
            small = self.rng.choice(SMALL)
            self.plain = self.plain and small <= 20  # the reference implementations loop in Python
            return small
        if kind < 0.6:
            return value + self.rng.choice((-1, 1))
        self.plain = False
        if kind < 0.7 and not self.large:
            self.large = True
            return self.rng.choice(LARGE)
        return self.rng.choice(HUGE)

    def number(self, value: Any) -> Any:
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return self.integer(value)
        self.plain = False
        return self.rng.choice(REALS)

    # Views: the same values at other places in memory.

    def moved(self, t: Tensor) -> Tensor:
        return self.rng.choice((checks.strided, checks.shifted, checks.channels_last, _transposed))(t)

    # Other values, shapes, dtypes and devices.

    def poisoned(self, t: Tensor) -> Tensor:
        if t.numel() == 0 or t.dtype.is_complex:
            return t
        self.plain = False
        values: tuple[float, ...] = REALS
        if not t.is_floating_point():
            highest = 1 if t.dtype == torch.bool else torch.iinfo(t.dtype).max
            values = (0, 1, highest, -highest if highest > 255 else 0, min(highest, 2**31), -1 if highest > 255 else 0)
        wide = torch.tensor(values, dtype=torch.float64 if t.is_floating_point() else torch.int64).to(t.dtype)
        poisoned = t.clone(memory_format=torch.contiguous_format)
        if self.rng.random() < 0.2:
            return poisoned.fill_(wide[self.rng.randrange(len(wide))])
        flat = poisoned.view(-1)
        for _ in range(self.rng.randint(1, 4)):
            flat[self.rng.randrange(len(flat))] = wide[self.rng.randrange(len(wide))]
        return poisoned

    def resized(self, t: Tensor) -> Tensor:
        if t.ndim == 0:
            return t.reshape(1)
        dim = self.rng.randrange(t.ndim)
        size = t.shape[dim]
        kind = self.rng.randrange(6)
        if kind == 0:
            return t.narrow(dim, 0, 0)
        if kind == 1 and size:
            return t.narrow(dim, self.rng.randrange(size), 1)
        if kind == 2:
            return torch.cat([t, t], dim)
        if kind == 3:
            return t.unsqueeze(dim)
        if kind == 4 and size:
            return t.select(dim, 0)
        return t.narrow(dim, 0, size // 2)

    def expanded(self, t: Tensor) -> Tensor:
        """One value for a whole dimension, which may be far larger than the memory."""
        self.plain = False
        if t.ndim == 0 or 0 in t.shape:
            return self.hollow(t)
        dim = self.rng.randrange(t.ndim)
        size = t.shape[dim] if self.rng.random() < 0.5 else abs(self.integer(t.shape[dim]))
        try:
            return t.narrow(dim, 0, 1).expand(*t.shape[:dim], size, *t.shape[dim + 1 :])
        except (RuntimeError, TypeError, OverflowError):
            return t

    def hollow(self, t: Tensor) -> Tensor:
        """No elements, but sizes whose product overflows."""
        self.plain = False
        if t.ndim == 0:
            return t
        sizes = [self.rng.choice((size, 2**31, 2**40, 2**62)) for size in t.shape]
        sizes[self.rng.randrange(t.ndim)] = 0
        try:
            return t.new_zeros(1).as_strided(sizes, [0] * t.ndim)
        except RuntimeError:  # torch multiplies the sizes in order
            return t.new_zeros(1).as_strided([0, *sizes[1:]], [0] * t.ndim)

    def tensor(self, t: Tensor) -> Tensor:
        kind = self.rng.random()
        if t.numel() > COPIED or max(t.shape, default=0) > COPIED:
            return t
        if kind < 0.25:
            return self.moved(t)
        self.kept = False
        changes: tuple[Callable[[Tensor], Tensor], ...] = (self.poisoned, self.poisoned, self.resized, self.expanded)
        if kind < 0.85:
            return self.rng.choice(changes)(t)
        self.plain = False
        if kind < 0.92:
            return t.to(self.rng.choice(DTYPES))
        return self.hollow(t) if kind < 0.95 else t.to("meta")

    def anything(self, value: Any, others: list[Tensor]) -> Any:
        """Return another argument in place of ``value``; ``others`` are the tensors of the same call."""
        if self.rng.random() < 0.02:
            self.kept = self.plain = False
            return self.rng.choice(OTHERS)
        if isinstance(value, Tensor) and self.rng.random() < 0.93:
            return self.tensor(value)
        if isinstance(value, Tensor) or value is None:
            self.kept = False
            return self.rng.choice(others) if others and self.rng.random() < 0.9 else None  # an alias
        if isinstance(value, (list, tuple)):
            return self.sequence(value, others)
        self.kept = False
        if isinstance(value, (bool, int, float)):
            return self.number(value)
        return self.rng.choice(DTYPES) if isinstance(value, torch.dtype) else value

    def sequence(self, values: Any, others: list[Tensor]) -> Any:
        items = list(values)
        if items and self.rng.random() < 0.8:
            at = self.rng.randrange(len(items))
            items[at] = self.anything(items[at], others)
        else:
            self.kept = False
            items = self.rng.choice((items[1:], items + items, [], items[::-1], items * 9))
        return type(values)(items) if type(values) in (list, tuple) else items

    def call(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments with up to three changes."""
        changed, others = dict(arguments), checks.tensors(arguments)
        for _ in range(self.rng.choice((1, 1, 1, 2, 2, 3))):
            name = self.rng.choice(list(changed))
            changed[name] = self.anything(changed[name], others)
        return changed


def _transposed(t: Tensor) -> Tensor:
    return t.transpose(-1, -2).contiguous().transpose(-1, -2) if t.ndim > 1 else t
