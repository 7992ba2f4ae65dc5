"""What every operator's Python file needs: errors under one type, and the registration of fakes."""

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

_BAD_ARGUMENT = "\n[pyrcnn: bad argument]"  # how csrc/common/tensor.h ends the message of every failed check
_WRONG_TYPE = re.compile(  # how torch refuses what a schema does not take
    r"pyrcnn::\w+\(\) Expected a value of type '(.+?)' for argument '(\w+)' but instead found type '(.+?)'"
)

P = ParamSpec("P")
R = TypeVar("R")


def _input_error(error: Exception, names: Mapping[str, str]) -> InputError | None:
    """What ``error`` says of an argument; None where it is no complaint about one."""
    message, mark, _ = str(error).partition(_BAD_ARGUMENT)
    wrong = None if mark else _WRONG_TYPE.match(message)
    if wrong:
        kind, name, given = wrong.groups()
        message = f"{name} must be of type {kind}, got {given}"
    name, space, rest = message.partition(" ")
    return InputError(names.get(name, name) + space + rest) if mark or wrong else None


def input_errors(function: Callable[P, R], names: Mapping[str, str] = MappingProxyType({})) -> Callable[P, R]:
    """Turn the exceptions that native argument checks raise into :class:`pyrcnn.InputError`.

    ``names``: the operator's arguments whose names are not those of ``function``, and what they are called there.
    While torch.compile traces, errors come from the fake kernels and the function is used bare.
    """

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except (ValueError, RuntimeError) as error:  # which of them it is depends on torch
            found = _input_error(error, names)
            if found is None:
                raise
            raise found from None

    return checked


_no_gradient = torch.library.Library("pyrcnn", "IMPL")


def no_gradient(op: str) -> None:
    """Let autograd pass ``op`` over: its outputs never require grad, whatever its inputs do."""
    _no_gradient.impl(op, torch.library.fallthrough_kernel, "Autograd")


def call(op: Callable[..., R], tensors: Iterable[Tensor], *args: Any) -> R:
    """``op(*args)``, past autograd where none of its ``tensors`` needs a gradient: its Python costs 10 us a call."""
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if wanted or torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return op(*args)
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)


def refuse_forward_ad(name: str, tensors: Sequence[Tensor]) -> None:
    """Raise where a forward-mode derivative would silently be lost."""
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        raise RuntimeError(f"{name} has no forward-mode derivative; use reverse mode (torch.autograd.grad)")


def no_second_gradient(op: str) -> None:
    """Make it an error to differentiate the gradient of ``op`` again: torch would warn and lose the derivative."""

    def refuse(ctx: Any, *grads: Any) -> None:
        raise RuntimeError(f"{op} cannot be differentiated twice")

    torch.library.register_autograd(f"pyrcnn::_{op}_backward", refuse)
