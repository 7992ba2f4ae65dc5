"""Finds the argument whose type is not the one that a function's annotation names."""

from __future__ import annotations

import functools
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError

_INT64 = 1 << 63
_PLAIN: dict[Any, tuple[Any, str]] = {  # annotation → accepted types, description
    Tensor: (Tensor, "a tensor"),
    float: ((numbers.Real, torch.SymInt, torch.SymFloat), "a number"),
    int: ((numbers.Integral, torch.SymInt), "an integer"),
    bool: (bool, "True or False"),
    str: (str, "a string"),
    torch.dtype: (torch.dtype, "a torch.dtype"),
    type(None): (type(None), "None"),
}


def listed(name: str, values: Sequence[float]) -> list[float]:
    """Return ``values`` as a list. A tensor is refused: its elements would be read, and printed, one by one."""
    if isinstance(values, Tensor):
        raise InputError(f"{name} must be a sequence of numbers, got Tensor")
    return list(values)


def _fits(value: Any, annotation: Any) -> bool:
    """Return whether ``value`` is of the type of ``annotation``; True for annotations that are not listed above."""
    if annotation in _PLAIN:
        return isinstance(value, _PLAIN[annotation][0])
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin in (Sequence, list, tuple):
        if not isinstance(value, Sequence) or isinstance(value, str):
            return False
        if origin is tuple and inner[-1] is not Ellipsis:
            return len(value) == len(inner) and all(map(_fits, value, inner))
        return all(_fits(each, inner[0]) for each in value)
    return True


def _describe(annotation: Any) -> str:
    if annotation in _PLAIN:
        return _PLAIN[annotation][1]
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_describe, inner))
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"{len(inner)} values"
    return f"a sequence (each element {_describe(inner[0])})" if inner else "of another type"


@functools.cache
def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(function)


def wrong_argument(function: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return the message about the first argument of a wrong type, or None. Called after an error only."""
    try:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
        annotations = _annotations(function)
    except (TypeError, NameError):  # a wrong number of arguments, for which Python's message is clear
        return None
    for name, value in given.items():
        annotation = annotations.get(name, Any)
        if not _fits(value, annotation):
            return f"{name} must be {_describe(annotation)}, got {_name_of(value, annotation)}"
        if isinstance(value, int) and not -_INT64 <= value < _INT64:
            return f"{name} must be an integer of at most 64 bits, got {value}"
    return None


def _name_of(value: Any, annotation: Any) -> str:
    """Return the name of the type of ``value``, or of the element of a sequence that is wrong."""
    if isinstance(value, (list, tuple)):
        inner = next((each for each in typing.get_args(annotation) if each is not type(None)), None)
        for each in value:
            if inner is not None and not _fits(each, inner):
                return f"{type(each).__name__} in a {type(value).__name__}"
    return type(value).__name__
