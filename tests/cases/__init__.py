"""The one table of operators: each entry feeds the contract tests and the benchmarks."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Inputs = dict[str, Any]
Shape = Mapping[str, Any]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# |difference| <= tolerance * (1 + |oracle|): float32 arithmetic, then the rounding of the storage type
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@dataclass(frozen=True)
class OpCase:
    """One operator: how to call it, what is right, at which sizes.

    ``inputs(generator, device, dtype, shape)`` makes the keyword arguments of ``call``: tensors and plain
    numbers; for low precision, values that the dtype can hold. ``oracle`` takes the same keyword arguments in float64
    on the CPU and returns what ``call`` returns; ``native(inputs)`` gives (overload, positional arguments).
    """

    name: str
    call: Callable[..., Any]
    oracle: Callable[..., Any]
    inputs: Callable[[torch.Generator, torch.device, torch.dtype, Shape], Inputs]
    shapes: Mapping[str, Shape]  # readable id -> sizes, small: every promise is checked at each
    native: Callable[[Inputs], tuple[Any, tuple[Any, ...]]] | None = None  # None: plain torch, no op of its own
    empty_shapes: Mapping[str, Shape] = field(default_factory=dict)  # legal sizes with a zero in them
    bench_shapes: Mapping[str, Shape] = field(default_factory=dict)  # sizes of real runs
    grads: tuple[str, ...] = ()  # the inputs that receive a gradient
    grad_shape: Shape | None = None  # tiny, for gradcheck
    dtypes: tuple[torch.dtype, ...] = FLOATS
    tolerance: Mapping[torch.dtype, float] = field(default_factory=lambda: TOLERANCE)
    # The oracle sees the inputs after rounding to the dtype; where a rounding can still flip a decision (a threshold),
    # at most this share of the output's elements may differ.
    discrete: float = 0.0
    # (what is wrong, change of the inputs, the argument that the error must begin with)
    bad: tuple[tuple[str, Callable[[Inputs], Inputs], str], ...] = ()
    # Inputs that hold anything (NaN, inf, far outside, an index past the end): return a result or raise InputError.
    hostile: Callable[[torch.Generator, torch.device, torch.dtype], list[Inputs]] | None = None
    layouts: tuple[str, ...] = ()  # the inputs with 4 dimensions whose memory format the output must keep
    bytes: Callable[[Shape, torch.dtype], int] | None = (
        None  # bytes that must move: inputs read once, outputs written once
    )


def change(**values: Any) -> Callable[[Inputs], Inputs]:
    """``change(boxes=lambda b: b[:, :3])`` for ``OpCase.bad``: replaces arguments, given their old value."""
    return lambda inputs: {**inputs, **{k: v(inputs[k]) if callable(v) else v for k, v in values.items()}}


def _collect() -> list[OpCase]:
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    return [case for module in modules for case in module.CASES]


def all_cases() -> list[OpCase]:
    """Every case of every module in this folder (each defines ``CASES``)."""
    return sorted(_collect(), key=lambda case: case.name)
