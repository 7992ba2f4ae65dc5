"""Reads JSON files and their values: numbers, ids and flags as exporters write them.

Each reader returns None where the meaning of a value is not certain, and never raises.
"""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, require

Id = int | str
FARTHEST = 2.0**24  # pixels; float32 holds the integers up to here, and no image is larger
SMALLEST = 1e-6  # pixels; products of smaller sides would vanish in rounding

_LARGEST_ID = 10**100
_DECIMAL = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_FLAGS = {0: False, 1: True, "0": False, "1": True, "false": False, "true": True}
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring, _SHORT.maxlong = 2, 6, 3, 60, 30


def read_json(path: str | os.PathLike[str], name: str) -> Any:
    """Return the content of a JSON file; :class:`pyrcnn.InputError`, which begins with ``name``, if it is none."""
    file = Path(path)
    check_file(file, name)
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{name} must be a readable file, got {file} ({error.strerror})") from None
    except RecursionError:
        raise InputError(f"{name} must be valid JSON, got {file}, which is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{name} must be valid JSON, got {file} ({str(error)[:200]})") from None


def check_file(file: Path, name: str) -> None:
    """Raise :class:`pyrcnn.InputError`, which begins with ``name``, unless ``file`` is a regular file."""
    require(file.is_file(), f"{name} must be a readable file, got {file}, which is {_what(file)}")


def _what(file: Path) -> str:
    return "a folder" if file.is_dir() else "no regular file" if file.exists() else "missing"


def shown(value: Any) -> str:
    """Return ``value`` for a message: as Python writes it, shortened."""
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):  # integers of thousands of digits
        return type(value).__name__


def number(value: Any) -> float | None:
    """Return a number, or a text that is a decimal number, as float (infinite if it is too large); else None.

    >>> number(3), number("2.50"), number(True), number(None), number("1,5")
    (3.0, 2.5, None, None, None)
    """
    if type(value) is float:
        return value
    if isinstance(value, str):
        return float(value) if len(value) <= 400 and _DECIMAL.fullmatch(value) else None
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return None


def numbers(values: Any, count: int | None = None) -> list[float] | None:
    """Return a list of finite numbers, ``count`` of them if given; None for anything else.

    >>> numbers([1, "2"], 2), numbers([1, None], 2), numbers("12", 2), numbers([1, 1e999], 2)
    ([1.0, 2.0], None, None, None)
    """
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, list | tuple) or (count is not None and len(values) != count):
        return None
    found = [number(value) for value in values]
    return found if all(v is not None and math.isfinite(v) for v in found) else None  # type: ignore[return-value]


def identity(value: Any) -> Id | None:
    """Return an id: integers (also written as 3.0) as int, texts as they are, None for anything else.

    Integers of a hundred digits are not ids: a program that wrote them has failed.

    >>> identity(3), identity(3.0), identity("a"), identity(3.5), identity(True), identity(None)
    (3, 3, 'a', None, None, None)
    """
    if isinstance(value, str):
        return value
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, Real)):
        return None
    if not isinstance(value, int) and not isinstance(value, Integral):
        value = float(value)
        if not value.is_integer():  # NaN and the infinities are none either
            return None
    return int(value) if abs(value) < _LARGEST_ID else None


def flag(value: Any) -> bool | None:
    """Return a truth value written as true, 1, "1" or "true"; a missing one (None) is False.

    >>> flag(1), flag("0"), flag(None), flag(2), flag([])
    (True, False, False, None, None)
    """
    if value is None or value is False or value is True:
        return bool(value)
    if type(value) is int:
        return _FLAGS.get(value)
    if isinstance(value, str):
        value = value.strip().lower()
    return _FLAGS.get(value) if isinstance(value, str | Real) else None


def find(value: Any, known: Any) -> Id | None:
    """Return the key of ``known`` that the id ``value`` names: 7 and "7" are one id unless both are keys.

    >>> find("7", {7: "a"}), find(7.0, {"7": "a"}), find("07", {7: "a"})
    (7, '7', None)
    """
    key = identity(value)
    if key is None or key in known:
        return key
    if isinstance(key, int):
        other: Id = str(key) if abs(key) < 10**20 else key
    else:
        other = int(key) if re.fullmatch(r"0|-?[1-9]\d{0,19}", key, re.ASCII) else key
    return other if other in known else None


def in_order(ids: Iterable[Id]) -> list[Id]:
    """Return ids in ascending order, numbers before texts."""
    return sorted(ids, key=lambda i: (isinstance(i, str), i))
