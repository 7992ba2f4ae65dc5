"""Shared by all operators: one exception type for bad arguments, fake kernels, and how gradients are registered."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _native  # noqa: F401  (loads the library: torch.ops.pyrcnn exists from here on)
from ..errors import InputError
from ._types import wrong_argument

_BAD_ARGUMENT = "\n[pyrcnn: bad argument]"  # csrc/common/tensor.h ends the message of a failed check with it
_WRONG_TYPE = re.compile(  # torch's message for an argument of a wrong type
    r"pyrcnn::\w+\(\) Expected a value of type '(.+?)' for argument '(\w+)' but instead found type '(.+?)'"
)

_NO_MEMORY = re.compile(r"out of memory|MemoryError|API call failed|can't allocate memory|[Ii]nvalid buffer size")

P = ParamSpec("P")
R = TypeVar("R")


def _input_error(error: Exception, names: Mapping[str, str]) -> InputError | None:
    """Return the InputError for ``error`` if it is about an argument, else None."""
    message, mark, _ = str(error).partition(_BAD_ARGUMENT)
    wrong = None if mark else _WRONG_TYPE.match(message)
    if wrong:
        kind, name, given = wrong.groups()
        if kind == given == "int":
            given = "an integer of more than 64 bits"
        message = f"{name} must be of type {kind}, got {given}"
    if not (mark or wrong or isinstance(error, InputError)):  # a fake kernel and ``function`` itself raise InputError
        return None
    name, rest = re.fullmatch(r"(\w*)(.*)", message, re.S).groups()  # type: ignore[union-attr]
    return InputError(names.get(name, name) + rest)


def _out_of_memory(function: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> RuntimeError:
    """Return the error for memory that is not the result's: a workspace, or a dense copy of an argument."""
    given = inspect.signature(function).bind(*args, **kwargs).arguments
    shapes = ", ".join(f"{name} {list(t.shape)}" for name, t in _named_tensors(given.items()))
    return RuntimeError(f"{function.__name__} is out of memory for {shapes}")


def input_errors(function: Callable[P, R], names: Mapping[str, str] = MappingProxyType({})) -> Callable[P, R]:
    """Return ``function`` with errors of native argument checks raised as :class:`pyrcnn.InputError`.

    The same holds for arguments of other types than the annotations of ``function`` say. While torch.compile traces,
    errors come from the fake kernels, and ``function`` is called directly.

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
        except (ValueError, RuntimeError, TypeError, AttributeError, IndexError, MemoryError) as error:
            # Which one a native check raises depends on torch's version.
            message = wrong_argument(function, args, kwargs)
            found = InputError(message) if message else _input_error(error, names)
            if found is not None:
                raise found from None
            if not isinstance(error, torch.OutOfMemoryError) and _NO_MEMORY.search(f"{type(error).__name__} {error}"):
                raise _out_of_memory(function, args, kwargs) from None
            raise

    return checked


def _named_tensors(arguments: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of (name, value) pairs, those of lists as "name[0]", "name[1]" and so on."""
    for name, value in arguments:
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, (list, tuple)):
            yield from ((f"{name}[{i}]", t) for i, t in enumerate(value) if isinstance(t, Tensor))


def register_fake(op: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register the decorated function as the fake kernel of ``op``; it gets tensors of one device only.

    If at least one tensor is on "meta", torch calls the fake kernel, whose results have no contents. So arguments on
    several devices must be an error here: the native checks do not see them.
    """
    overload = getattr(torch.ops.pyrcnn, op).default
    arguments = [argument.name for argument in overload._schema.arguments]
    required = {argument.name for argument in overload._schema.arguments if str(argument.type) == "Tensor"}

    def decorate(fake: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(fake)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name, value in zip(arguments, args, strict=False):
                if value is None and name in required:
                    raise InputError(f"{name} must be a tensor, got None")
            found = list(_named_tensors(zip(arguments, args, strict=False)))
            found += _named_tensors(kwargs.items())
            for name, t in found:
                first, device = found[0][0], found[0][1].device
                if t.device != device:
                    raise InputError(f"{name} must be on the device of {first}, {device}, got {t.device}")
            return fake(*args, **kwargs)

        torch.library.register_fake(overload, checked)
        return fake

    return decorate


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
