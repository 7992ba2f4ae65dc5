"""The exception for bad arguments, and the checks that raise it."""

from __future__ import annotations

import os


class InputError(ValueError, RuntimeError, AssertionError):
    """Raised for a bad argument: ``<argument> must be <wanted>, got <what came>``.

    It is a ``ValueError``. It is also a ``RuntimeError`` and an ``AssertionError``, because torchvision's operators
    raise those and callers catch them.
    """


def path_of(value: object, argument: str) -> str:
    """``value``, a text or path object, as text. Raises :class:`InputError` if it is neither, or cannot be a name."""
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    require(isinstance(path, str), f"{argument} must be a path, got {type(value).__name__}")
    require("\0" not in path, f"{argument} must be a path, got one with a null character")  # type: ignore[operator]
    return path  # type: ignore[return-value]


def require(ok: bool, message: str) -> None:
    """Raise :class:`InputError` with ``message`` unless ``ok``."""
    if not ok:
        raise InputError(message)
