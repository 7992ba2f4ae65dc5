"""``--set key=value`` on the command line: text to the fields of configuration dataclasses."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from .errors import require


def parse(settings: Iterable[str], *configs: Any) -> list[dict[str, Any]]:
    """Changes for each of ``configs`` from texts like ``roi.samples=256``; the first that has the field takes it.

    A value is a Python literal or else a string, and must be of the type of the field's present value (an integer may
    stand for a float, ``None`` for anything). A dotted name reaches into a nested configuration: ``{"roi": {…}}``.
    """
    changes: list[dict[str, Any]] = [{} for _ in configs]
    for setting in settings:
        key, equals, text = setting.partition("=")
        require(bool(equals), f"--set takes key=value, got {setting!r}")
        owner = next((i for i, c in enumerate(configs) if key.split(".")[0] in _names(c)), None)
        known = ", ".join(name for c in configs for name in _names(c))
        require(owner is not None, f"--set {key}: there is no such setting; settings: {known}")
        _put(configs[owner], changes[owner], key.split("."), _value(text), key)  # type: ignore[index]
    return changes


def _names(config: Any) -> list[str]:
    return [f.name for f in fields(config)]


def _types(config: Any) -> dict[str, str]:
    return {f.name: str(f.type) for f in fields(config)}  # as written: an int may stand as the default of a float


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


def _put(config: Any, changes: dict[str, Any], path: list[str], value: Any, key: str) -> None:
    name, *rest = path
    require(name in _names(config), f"--set {key}: {name} is none of {', '.join(_names(config))}")
    present = getattr(config, name)
    if is_dataclass(present) and not isinstance(present, type):
        require(bool(rest), f"--set {key}: name one of its fields, {', '.join(_names(present))}")
        _put(present, changes.setdefault(name, {}), rest, value, key)
        return
    require(not rest, f"--set {key}: {name} has no fields")
    kind = "float" if _types(config)[name] == "float" else type(present).__name__
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    fits = present is None or value is None or type(value).__name__ == kind
    require(fits, f"--set {key}: must be {kind}, as {present!r}, got {value!r}")
    changes[name] = value
