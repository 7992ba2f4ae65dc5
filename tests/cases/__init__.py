"""The table of operators: what the contract tests call, and with which inputs."""

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
# |difference| <= tolerance * (1 + |expected|): errors of float32 arithmetic and of rounding to the storage type
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@dataclass(frozen=True)
class OpCase:
    """One operator: how to call it, its reference implementation, and the sizes to test.

    ``inputs(generator, device, dtype, shape)`` returns the keyword arguments of ``call``: tensors and plain numbers. In
    low precision, the values must be exact in the dtype. ``oracle`` is the reference implementation: it takes the same
    keyword arguments in float64 on the CPU and returns what ``call`` returns. ``native(inputs)`` returns (overload,
    positional arguments). An operator may have several cases; one of them has its name.
    """

    name: str
    call: Callable[..., Any]
    oracle: Callable[..., Any]
    inputs: Callable[[torch.Generator, torch.device, torch.dtype, Shape], Inputs]
    shapes: Mapping[str, Shape]  # readable id → small sizes; every test runs at each of them
    native: Callable[[Inputs], tuple[Any, tuple[Any, ...]]] | None = None  # None for an operator in plain torch
    large: Shape | None = None  # a size whose work is shared by threads: more than 40 µs by the kernel's own estimate
    empty_shapes: Mapping[str, Shape] = field(default_factory=dict)  # valid sizes that contain a zero
    grads: tuple[str, ...] = ()  # the inputs that receive a gradient
    grad_shape: Shape | None = None  # very small, for gradcheck
    dtypes: tuple[torch.dtype, ...] = FLOATS
    tolerance: Mapping[torch.dtype, float] = field(default_factory=lambda: TOLERANCE)
    # The reference gets the inputs rounded to the dtype. Where rounding can still change a decision at a threshold, at
    # most this share of the output's elements may differ.
    discrete: float = 0.0
    # (what is wrong, change of the inputs, argument that the error message must start with)
    bad: tuple[tuple[str, Callable[[Inputs], Inputs], str], ...] = ()
    # Inputs with NaN, infinities, huge coordinates or invalid indices: the operator returns or raises InputError.
    hostile: Callable[[torch.Generator, torch.device, torch.dtype], list[Inputs]] | None = None
    layouts: tuple[str, ...] = ()  # the inputs [N, C, H, W] whose memory format the output must have


def change(**values: Any) -> Callable[[Inputs], Inputs]:
    """Return a function for ``OpCase.bad`` that replaces arguments: ``change(boxes=lambda b: b[:, :3])``."""
    return lambda inputs: {**inputs, **{k: v(inputs[k]) if callable(v) else v for k, v in values.items()}}


def _collect() -> list[OpCase]:
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    return [case for module in modules for case in module.CASES]


def all_cases() -> list[OpCase]:
    """Return the cases of all modules in this folder; each defines ``CASES``."""
    return sorted(_collect(), key=lambda case: case.name)
