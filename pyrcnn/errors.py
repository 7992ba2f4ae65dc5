"""The exception for bad arguments."""

from __future__ import annotations


class InputError(ValueError, RuntimeError, AssertionError):
    """Raised for a bad argument: ``<argument> must be <wanted>, got <what came>``.

    It is a ``ValueError``. It is also a ``RuntimeError`` and an ``AssertionError``, because torchvision's operators
    raise those and callers catch them.
    """


def printable(text: str) -> str:
    """Return ``text`` with line breaks, control characters and what no terminal can show escaped.

    >>> printable("a\\x1b[31m")
    'a\\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def require(ok: bool, message: str) -> None:
    """Raise :class:`InputError` with ``message`` unless ``ok``."""
    if not ok:
        raise InputError(message)
