"""Makes texts safe to show: names of files and classes may hold anything."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_LONGEST = 300  # characters of foreign text in a message
_LONGEST_NAME = 100
_SHOWN = 8  # names listed in a message


def printable(text: object) -> str:
    """``text`` on one line, with everything that is not a visible character or a space written as an escape.

    Control characters, terminal sequences, line ends and the characters that reverse or hide text become ``\\n``,
    ``\\x1b`` or ``\\u202e``; bytes of a file name that are not UTF-8 become ``\\xe9``.

    Example:
        >>> print(printable("a\\x1b[31m.jpg"))
        a\\x1b[31m.jpg
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte that it cannot decode
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def one_line(text: object, longest: int = _LONGEST) -> str:
    """The first line of foreign text, cut and :func:`printable`."""
    return printable(_cut(str(text).strip().partition("\n")[0], longest))


def _cut(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def listed(names: Sequence[object], most: int = _SHOWN) -> str:
    """The first names, cut and :func:`printable`, and the number of the others.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(_cut(str(name), _LONGEST_NAME)) for name in names[:most]) + more
