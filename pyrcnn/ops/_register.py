"""Shared by all operators: one exception type for bad arguments, and how gradients are registered or refused."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _native  # noqa: F401  (loads the library: torch.ops.pyrcnn exists from here on)
from ..errors import InputError

_BAD_ARGUMENT = "\n[pyrcnn: bad argument]"  # csrc/common/tensor.h ends the message of a failed check with it
_WRONG_TYPE = re.compile(  # torch's message for an argument of a wrong type
    r"pyrcnn::\w+\(\) Expected a value of type '(.+?)' for argument '(\w+)' but instead found type '(.+?)'"
)

P = ParamSpec("P")
R = TypeVar("R")


def _input_error(error: Exception, names: Mapping[str, str]) -> InputError | None:
    """Return the InputError for ``error`` if it is about an argument, else None."""
    message, mark, _ = str(error).partition(_BAD_ARGUMENT)
    wrong = None if mark else _WRONG_TYPE.match(message)
    if wrong:
        kind, name, given = wrong.groups()
        message = f"{name} must be of type {kind}, got {given}"
    name, space, rest = message.partition(" ")
    return InputError(names.get(name, name) + space + rest) if mark or wrong else None


def input_errors(function: Callable[P, R], names: Mapping[str, str] = MappingProxyType({})) -> Callable[P, R]:
    """Return ``function`` with errors of native argument checks raised as :class:`pyrcnn.InputError`.

    While torch.compile traces, errors come from the fake kernels, and ``function`` is called directly.

    Args:
        function: the operator's public function.
        names: the native operator's argument names → those of ``function``, where they differ.
    """

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except (ValueError, RuntimeError) as error:  # which one depends on torch's version
            found = _input_error(error, names)
            if found is None:
                raise
            raise found from None

    return checked


_no_gradient = torch.library.Library("pyrcnn", "IMPL")


def no_gradient(op: str) -> None:
    """Register ``op`` as not differentiable: its outputs never require a gradient."""
    _no_gradient.impl(op, torch.library.fallthrough_kernel, "Autograd")


def call(op: Callable[..., R], tensors: Iterable[Tensor], *args: Any) -> R:
    """Return ``op(*args)``; skip autograd, which costs 10 µs per call, if none of ``tensors`` needs a gradient."""
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if wanted or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return op(*args)
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)


def refuse_forward_ad(name: str, tensors: Sequence[Tensor]) -> None:
    """Raise an error if a tensor has a forward-mode derivative, which would be lost silently."""
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        raise RuntimeError(f"{name} has no forward-mode derivative; use reverse mode (torch.autograd.grad)")


def no_second_gradient(op: str) -> None:
    """Make a second derivative of ``op`` an error; without this, torch warns and drops the derivative."""

    def refuse(ctx: Any, *grads: Any) -> None:
        raise RuntimeError(f"{op} cannot be differentiated twice")

    torch.library.register_autograd(f"pyrcnn::_{op}_backward", refuse)
