"""Helpers of the contract tests: flattening, comparing, changing layouts and dtypes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tests.cases import Inputs, OpCase


def tensors(value: Any) -> list[Tensor]:
    """Return all tensors in a result: a tensor, (named) tuple, list or dict, or those nested."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for v in value.values() for t in tensors(v)]
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in tensors(v)]
    return []


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return the same structure with every tensor replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {k: map_tensors(function, v) for k, v in value.items()}
    if isinstance(value, list):
        return [map_tensors(function, v) for v in value]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(map_tensors(function, v) for v in value)
    return value


def upcast(inputs: Inputs) -> Inputs:
    """Return the inputs of the reference implementation: float64 on the CPU, contiguous."""
    return map_tensors(lambda t: (t.double() if t.is_floating_point() else t).cpu().contiguous(), inputs)


def close(case: OpCase, dtype: torch.dtype, actual: Any, expected: Any) -> None:
    """Assert that a result equals the reference's within the case's tolerance for that dtype."""
    got, want = tensors(actual), tensors(expected)
    assert len(got) == len(want), f"{case.name} returns {len(got)} tensors, its reference {len(want)}"
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert tuple(a.shape) == tuple(b.shape), f"output {i}: {tuple(a.shape)} instead of {tuple(b.shape)}"
        a, b = a.detach().cpu().double(), b.detach().cpu().double()
        same = (a == b) | (a.isnan() & b.isnan())
        off = ~same & ~((a - b).abs() <= case.tolerance[dtype] * (1 + b.abs()))
        allowed = int(case.discrete * off.numel())
        worst = (a - b).abs()[off].max().item() if off.any() else 0.0
        assert int(off.sum()) <= allowed, f"output {i}: {int(off.sum())} of {off.numel()} differ, worst by {worst:.3g}"


def identical(actual: Any, expected: Any) -> None:
    """Assert that two results are the same bit for bit (NaN equals NaN)."""
    for a, b in zip(tensors(actual), tensors(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def strided(t: Tensor) -> Tensor:
    """Return the same values with strides of no memory format."""
    if t.ndim == 0:
        return t
    wide = torch.empty(*t.shape[:-1], t.shape[-1] * 2 + 1, dtype=t.dtype, device=t.device)
    view = wide[..., 1::2]
    view.copy_(t)
    return view


def shifted(t: Tensor) -> Tensor:
    """Return the same values at an address that is aligned to one element only."""
    storage = torch.empty(t.numel() + 1, dtype=t.dtype, device=t.device)
    view = storage[1:].view(t.shape)
    view.copy_(t)
    return view


def channels_last(t: Tensor) -> Tensor:
    """Return a tensor with four dimensions in NHWC, others unchanged."""
    return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t


@contextmanager
def deterministic() -> Iterator[None]:
    """Use deterministic algorithms: no atomic sums on a GPU. torch also fills new memory with NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def whatever_the_threads(function: Callable[[], Tensor], *counts: int) -> Tensor:
    """Return the result of ``function``, after asserting that 1, 2 and 8 threads give the same bits."""
    before, results = torch.get_num_threads(), []
    try:
        for threads in counts or (1, 2, 8):
            torch.set_num_threads(threads)
            results.append(function())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], result) for result in results[1:])
    return results[0]


def gradients(case: OpCase, inputs: Inputs) -> list[Tensor]:
    """Return the gradients to the case's differentiable inputs, with fixed, unequal weights of the outputs."""
    leaves: list[Tensor] = []

    def leaf(t: Tensor) -> Tensor:
        leaves.append(t.detach().clone().requires_grad_())
        return leaves[-1]

    prepared = {k: map_tensors(leaf, v) if k in case.grads else v for k, v in inputs.items()}
    outputs = [t for t in tensors(case.call(**prepared)) if t.is_floating_point() and t.requires_grad]
    weights = [torch.cos(torch.arange(t.numel(), device=t.device)).view(t.shape).to(t.dtype) for t in outputs]
    torch.autograd.backward(outputs, weights)
    for t in leaves:
        assert t.grad is not None
        assert t.grad.dtype == t.dtype
    return [t.grad for t in leaves if t.grad is not None]
