"""Derivatives of every native operator: with respect to each input alone, second ones, forward mode, and none."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from pyrcnn.ops import roi_align
from tests.cases import Inputs, OpCase, all_cases
from tests.ops import checks

NATIVE = [case for case in all_cases() if case.native is not None and torch.float64 in case.dtypes]
WITH = [pytest.param(c, c.grad_shape or next(iter(c.shapes.values())), id=c.name) for c in NATIVE if c.grads]
WITHOUT = [pytest.param(c, next(iter(c.shapes.values())), id=c.name) for c in NATIVE if not c.grads]

ONCE_ONLY = {"decode_boxes", "encode_boxes", "decode_anchors"}
FORWARD_TOO = {"box_iou"}


def leaves_of(inputs: Inputs, names: tuple[str, ...]) -> tuple[Inputs, list[Tensor]]:
    """Return the inputs with those names as leaves that require a gradient, and the leaves."""
    leaves: list[Tensor] = []

    def leaf(t: Tensor) -> Tensor:
        leaves.append(t.detach().clone().requires_grad_())
        return leaves[-1]

    return {k: checks.map_tensors(leaf, v) if k in names else v for k, v in inputs.items()}, leaves


def differentiable(result: Any) -> list[Tensor]:
    return [t for t in checks.tensors(result) if t.is_floating_point() and t.requires_grad]


def gradients(case: OpCase, inputs: Inputs, names: tuple[str, ...]) -> list[Tensor]:
    """Return the gradients of the sum of squares, in which the inputs occur twice."""
    prepared, leaves = leaves_of(inputs, names)
    return list(torch.autograd.grad(sum(t.square().sum() for t in differentiable(case.call(**prepared))), leaves))


@pytest.mark.parametrize(("case", "shape"), WITH)
def test_an_inputs_gradient_does_not_depend_on_the_others(case: OpCase, shape: Any, device, generator) -> None:
    inputs = case.inputs(generator, device, torch.float64, shape)
    order = tuple(name for name in inputs if name in case.grads)
    with checks.deterministic():
        together = gradients(case, inputs, order)
        by_name = [t for name in order for t in gradients(case, inputs, (name,))]
    checks.identical(by_name, together)


def test_rois_alone_have_a_gradient(device, generator) -> None:
    maps = torch.randn(1, 2, 8, 8, generator=generator, dtype=torch.float64).to(device)
    rois = torch.tensor([[0.0, 1, 1, 5.5, 6]], dtype=torch.float64, device=device, requires_grad=True)
    (alone,) = torch.autograd.grad(roi_align(maps, rois, 2).square().sum(), rois)
    (together,) = torch.autograd.grad(roi_align(maps.requires_grad_(), rois, 2).square().sum(), rois)
    checks.identical(alone, together)
    assert float(alone.abs().sum()) > 0


@pytest.mark.parametrize(("case", "shape"), WITH)
def test_second_derivatives_are_right_or_raise(case: OpCase, shape: Any, device, generator) -> None:
    inputs, leaves = leaves_of(case.inputs(generator, device, torch.float64, shape), case.grads)

    def function(*values: Tensor) -> tuple[Tensor, ...]:
        fresh = iter(values)
        changed = {k: checks.map_tensors(lambda _: next(fresh), v) for k, v in inputs.items() if k in case.grads}
        return tuple(t.square() for t in differentiable(case.call(**{**inputs, **changed})))

    def check() -> bool:
        return torch.autograd.gradgradcheck(function, tuple(leaves), atol=1e-4, nondet_tol=0.0, fast_mode=True)

    with checks.deterministic():
        if case.name in ONCE_ONLY:
            with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
                check()
        else:
            assert check()


@pytest.mark.parametrize(("case", "shape"), [p for p in WITH if p.values[0].name not in FORWARD_TOO])
def test_forward_mode_raises_where_it_is_not_supported(case: OpCase, shape: Any, device, generator) -> None:
    inputs = case.inputs(generator, device, torch.float64, shape)
    with forward_ad.dual_level():
        for name in case.grads:
            dual: Callable[[Tensor], Tensor] = lambda t: forward_ad.make_dual(t, torch.ones_like(t))  # noqa: E731
            with pytest.raises(RuntimeError, match="forward-mode"):
                case.call(**{**inputs, name: checks.map_tensors(dual, inputs[name])})


@pytest.mark.parametrize(("case", "shape"), [p for p in WITH if p.values[0].name in FORWARD_TOO])
def test_forward_mode_where_there_is_one(case: OpCase, shape: Any, device, generator) -> None:
    inputs, leaves = leaves_of(case.inputs(generator, device, torch.float64, shape), case.grads)

    def function(*values: Tensor) -> Any:
        return case.call(**{**inputs, **dict(zip(case.grads, values, strict=True))})

    assert torch.autograd.gradcheck(function, tuple(leaves), check_forward_ad=True, check_backward_ad=False)


@pytest.mark.parametrize(("case", "shape"), WITHOUT)
def test_operators_without_a_gradient_require_none(case: OpCase, shape: Any, device, generator) -> None:
    inputs = case.inputs(generator, device, torch.float64, shape)
    wanting = checks.map_tensors(lambda t: t.clone().requires_grad_() if t.is_floating_point() else t, inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = case.call(**wanting)
    assert not [t for t in checks.tensors(result) if t.requires_grad]
