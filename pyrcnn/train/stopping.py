"""Signals that end a run cleanly: Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Signals:
    """Within ``with Signals() as signals:``, SIGINT and SIGTERM set ``signals.came``; a second one stops at once.

    Under ``torchrun`` a second one is ignored: ``torchrun`` passes on the Ctrl-C that the terminal has sent to every
    process already, and kills processes that do not end.
    """

    def __init__(self) -> None:
        self.came = False
        self._patient = "TORCHELASTIC_RUN_ID" in os.environ
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # only it may set signal handlers
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.came and not self._patient:
            raise KeyboardInterrupt
        self.came = True
