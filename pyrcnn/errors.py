"""The exception for bad arguments, and what its messages are made of."""

from __future__ import annotations

from collections.abc import Sequence


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


_LONGEST = 300  # characters of foreign text in a message
_SHOWN = 8  # names listed in a message


def one_line(text: object, longest: int = _LONGEST) -> str:
    """The first line of foreign text, cut, with control characters written as escapes such as ``\\x1b``."""
    line = str(text).strip().partition("\n")[0]
    line = line if len(line) <= longest else f"{line[:longest]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def listed(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(one_line(name) for name in names[:_SHOWN]) + more
