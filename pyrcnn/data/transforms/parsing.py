"""Transforms from text, as on the command line: ``HorizontalFlip, ScaleJitter(0.6, 1.3)``."""

from __future__ import annotations

import ast
import inspect
import math
from dataclasses import fields
from typing import Any

from ...errors import InputError, require
from ...models.configuration import check_config
from ...texts import one_line
from . import colors, crops, flips, mixing, sizes
from .base import Transform

TRANSFORMS: dict[str, Any] = {
    name: value
    for module in (flips, sizes, crops, colors, mixing)
    for name, value in vars(module).items()
    if inspect.isclass(value) and value.__module__ == module.__name__
}


def parse_transforms(text: str) -> tuple[Transform, ...]:
    """Return the transforms that ``text`` names, in order. Nothing of it is run: arguments are Python literals.

    Raises:
        pyrcnn.InputError: for a name that is no transform, and for an argument that it does not take.

    Args:
        text: names of :mod:`pyrcnn.data`, with or without arguments, separated by commas.

    Example:
        >>> parse_transforms("VerticalFlip, RandomCrop(0.5, probability=1)")
        (VerticalFlip(probability=0.5), RandomCrop(low=0.5, high=1.0, probability=1, min_visible=0.3))
        >>> parse_transforms("")
        ()
    """
    listed = text.strip().removesuffix(",")
    try:
        parsed = ast.parse(f"({listed},)" if listed else "()", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        parsed = None  # type: ignore[assignment]
    wanted = f"augment must be transforms such as 'HorizontalFlip, ScaleJitter(0.6, 1.3)', got {one_line(text)!r}"
    require(isinstance(parsed, ast.Tuple), wanted)
    return tuple(_transform(node, wanted) for node in parsed.elts)  # type: ignore[union-attr]


def _transform(node: ast.expr, wanted: str) -> Transform:
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    require(isinstance(call.func, ast.Name), wanted)
    name = call.func.id  # type: ignore[attr-defined]
    require(name in TRANSFORMS, f"augment must name transforms ({', '.join(sorted(TRANSFORMS))}), got {name!r}")
    known = [field.name for field in fields(TRANSFORMS[name])]
    require(len(call.args) <= len(known), f"augment: {name} takes {', '.join(known)}, got {len(call.args)} arguments")
    values: dict[str, Any] = {}
    for key, value in [*zip(known, call.args, strict=False), *((k.arg or "**", k.value) for k in call.keywords)]:
        require(key in known, f"augment: {name} takes {', '.join(known)}, got {key!r}")
        require(key not in values, f"augment: {name} takes {key} once, got it twice")
        try:
            values[key] = _tuples(ast.literal_eval(value))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise InputError(f"augment: {name}'s {key} must be a literal such as 0.5 or (1, 2)") from None
        require(values[key] not in (math.inf, -math.inf), f"augment: {name}'s {key} must be finite")
    check_config(TRANSFORMS[name], values, f"augment: {name}")
    try:
        return TRANSFORMS[name](**values)
    except InputError as error:
        raise InputError(f"augment: {name}'s {error}") from None
    except TypeError:
        raise InputError(f"augment: {name} must have values for {', '.join(known)}, got {len(values)}") from None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
