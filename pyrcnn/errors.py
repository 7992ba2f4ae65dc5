"""The exception for bad arguments, and the checks that raise it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


class InputError(ValueError, RuntimeError, AssertionError):
    """Raised for a bad argument: ``<argument> must be <wanted>, got <what came>``.

    It is a ``ValueError``. It is also a ``RuntimeError`` and an ``AssertionError``, because torchvision's operators
    raise those and callers catch them.

    Example:
        >>> from pyrcnn import ops
        >>> try:
        ...     ops.box_area(torch.zeros(3))
        ... except InputError as error:
        ...     print(error)
        boxes must be a tensor [..., 4], got [3]
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


@contextlib.contextmanager
def needing(module: str, what: str, package: str | None = None) -> Iterator[None]:
    """``with needing("av", "reading videos"): import av``: a missing module raises :class:`InputError` in one line.

    Args:
        module: the name that is imported.
        what: what needs it; the message begins with it.
        package: what to give to ``pip install``; None: ``module``.
    """
    package = package or module
    try:
        yield
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == module
        reason = "" if missing else f" (importing {module} failed: {error})"
        raise InputError(f"{what} needs {package}: pip install {package}{reason}") from None
