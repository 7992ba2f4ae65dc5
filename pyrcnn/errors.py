"""The one exception that bad arguments raise."""

from __future__ import annotations


class InputError(ValueError, RuntimeError, AssertionError):
    """A bad argument; the message starts with the argument's name and says what was wanted and what came.

    It is a ``ValueError`` by nature, and also a ``RuntimeError`` and an ``AssertionError`` because callers written for
    torchvision's operators catch those.
    """


def require(ok: bool, message: str) -> None:
    """Raise :class:`InputError` with ``message`` unless ``ok``."""
    if not ok:
        raise InputError(message)
