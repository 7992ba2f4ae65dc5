"""Ctrl-C that no library can lose.

Python drops an exception that is raised in a callback or a destructor. A ``KeyboardInterrupt`` that comes there is
lost, and the command would go on as if Ctrl-C had not been pressed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_came = False


@contextmanager
def noted() -> Iterator[None]:
    """Within this block, Ctrl-C raises ``KeyboardInterrupt`` as always, and :func:`check` does so later."""
    global _came
    _came = False
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not in a process that ignores it
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def check() -> None:
    """Raise ``KeyboardInterrupt`` if Ctrl-C has been pressed since :func:`noted` began."""
    if _came:
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    global _came
    _came = True
    signal.default_int_handler(number, frame)
