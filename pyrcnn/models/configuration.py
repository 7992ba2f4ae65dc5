"""Checks a configuration that comes from a file, before a model is built from it."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..errors import InputError, require
from ..texts import one_line

MOST = 1_000_000  # the largest integer in a configuration: a side in pixels, a number of proposals
MOST_CLASSES = 100_000
MOST_ITEMS = 1000  # of a tuple, such as the anchors' sizes
LONGEST = 100  # characters of a name such as the backbone's
MAKERS = frozenset({"empty", "zeros", "ones", "full", "rand", "randn", "arange", "tensor"})


def check_config(config: type, values: Any, name: str = "config") -> None:
    """Raise :class:`InputError`, which starts with the field's name, unless ``values`` are those of ``config``.

    Args:
        config: a dataclass of plain values.
        values: field → value as JSON gives it: a list is a tuple, and an integer may stand for a float.
        name: what ``values`` are called in messages.
    """
    require(isinstance(values, Mapping), f"{name} must be a dict, got {_shown(values)}")
    types_of = typing.get_type_hints(config)
    known = {field.name for field in fields(config)}
    for key, value in values.items():
        require(key in known, f"{name} must have fields of {config.__name__}, got {one_line(key)!r}")
        if is_dataclass(types_of[key]):
            check_config(typing.cast(type, types_of[key]), value, f"{name}.{key}")
        elif not _conforms(value, types_of[key]):
            raise InputError(f"{name}.{key} must be {_type_name(types_of[key])}, got {_shown(value)}")


def _conforms(value: Any, kind: Any) -> bool:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_conforms(value, part) for part in parts)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or len(value) > MOST_ITEMS:
            return False
        each = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(each) == len(value) and all(map(_conforms, value, each))
    if kind is float:
        return (type(value) is float and not math.isnan(value)) or _conforms(value, int)
    if kind is int:
        return type(value) is int and abs(value) <= MOST
    if kind is str:
        return isinstance(value, str) and len(value) <= LONGEST
    return type(value) is kind


def _type_name(kind: Any) -> str:
    name = kind.__name__ if isinstance(kind, type) and typing.get_origin(kind) is None else str(kind)
    return f"{name} of at most {MOST}" if kind is int else name


def _shown(value: Any) -> str:
    """A value in a message; a container by its type, because its text may be long or endless."""
    if isinstance(value, str | float | bool | types.NoneType):
        return one_line(repr(value), LONGEST)
    if isinstance(value, int):
        return str(value) if value.bit_length() < 64 else f"an integer of {value.bit_length()} bits"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, list | dict) else "")


class Allowance(TorchFunctionMode):
    """``with Allowance(state):`` a model may be built that has about as many tensors and elements as ``state``.

    A file's configuration may ask for more layers or wider ones than the file has weights for. Raises
    :class:`InputError` where that is noticed, before the memory is used.
    """

    def __init__(self, state: Mapping[str, Tensor]):
        super().__init__()
        self.tensors = 4 * len(state) + 1000
        self.elements = 2 * sum(value.numel() for value in state.values()) + 10_000_000

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") in MAKERS and isinstance(result, torch.Tensor):
            self.tensors -= 1
            self.elements -= result.numel()
            if self.tensors < 0 or self.elements < 0:
                raise InputError("config must describe a model of the file's weights, got a larger one")
        return result
