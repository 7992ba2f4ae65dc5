"""Parses ``--set key=value`` of the command line into changes of configuration dataclasses."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from .errors import require


def parse(settings: Iterable[str], *configs: Any) -> list[dict[str, Any]]:
    """Changes for each of ``configs`` from texts like ``roi.samples=256``. The first with the field gets the change.

    A value is a Python literal or a string. It must have the type of the field's present value; an integer is accepted
    for a float, and ``None`` for any type. A dotted name sets a field of a nested configuration: ``{"roi": {…}}``.
    Raises :class:`pyrcnn.InputError` for an unknown field or a value of another type.
    """
    changes: list[dict[str, Any]] = [{} for _ in configs]
    for setting in settings:
        key, equals, text = setting.partition("=")
        require(bool(equals), f"--set must be key=value, got {setting!r}")
        owner = next((i for i, c in enumerate(configs) if key.split(".")[0] in _names(c)), None)
        known = ", ".join(name for c in configs for name in _names(c))
        require(owner is not None, f"--set {key}: no such setting; settings: {known}")
        _put(configs[owner], changes[owner], key.split("."), _value(text), key)  # type: ignore[index]
    return changes


def _names(config: Any) -> list[str]:
    return [f.name for f in fields(config)]


def _types(config: Any) -> dict[str, str]:
    return {f.name: str(f.type) for f in fields(config)}  # as annotated: the default of a float field may be an int


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: nested too deep
        return {"true": True, "false": False}.get(text.lower(), text)


def _put(config: Any, changes: dict[str, Any], path: list[str], value: Any, key: str) -> None:
    name, *rest = path
    require(name in _names(config), f"--set {key}: {name} must be one of {', '.join(_names(config))}")
    present = getattr(config, name)
    if is_dataclass(present) and not isinstance(present, type):
        require(bool(rest), f"--set {key}: must name one of its fields, {', '.join(_names(present))}")
        _put(present, changes.setdefault(name, {}), rest, value, key)
        return
    require(not rest, f"--set {key}: {name} has no fields")
    kind = "float" if _types(config)[name] == "float" else type(present).__name__
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    kinds = {kind, *_types(config)[name].split(" | ")}  # annotated as bool | str, it may be either
    fits = present is None or value is None or type(value).__name__ in kinds
    require(fits, f"--set {key}: must be {kind}, as {present!r}, got {value!r}")
    changes[name] = value


def merge(changes: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """``changes`` of a configuration and of the nested ones in it, with ``more`` of them, which take precedence."""
    merged = dict(changes)
    for name, value in more.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], value) if nested else value
    return merged
