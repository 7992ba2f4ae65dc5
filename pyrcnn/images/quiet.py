"""Silences what Pillow and its libraries print about a file: this package tells in one line what is wrong with it."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import re
import threading
import warnings
from collections.abc import Callable
from pathlib import Path


class _Quiet:
    """``with quiet:`` ignores Pillow's warnings, what its TIFF reader logs and what libtiff prints.

    It counts the threads inside: the first one silences, the last one undoes it. ``warnings.catch_warnings`` is not for
    threads: two that overlap can leave the wrong filters behind. This adds one filter and removes that one.
    """

    def __init__(self) -> None:
        self._forget()
        self.filter = ("ignore", None, Warning, re.compile(r"PIL\b"), 0)
        self.printers: list[int | None] = []  # libtiff's own functions that print errors
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)  # the threads inside are not in the child
        logging.getLogger("PIL.TiffImagePlugin").addFilter(lambda record: not self.inside)

    def _forget(self) -> None:
        self.lock, self.inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.filter not in warnings.filters[:1]:  # someone else may have put one in front
                warnings.filters.insert(0, self.filter)  # type: ignore[attr-defined]
            if self.inside == 1:
                self.printers = [set_printer(None) for set_printer in _libtiff()]

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                while self.filter in warnings.filters:
                    warnings.filters.remove(self.filter)  # type: ignore[attr-defined]
                for set_printer, printer in zip(_libtiff(), self.printers, strict=True):
                    set_printer(printer)


@functools.cache
def _libtiff() -> list[Callable[[int | None], int | None]]:
    """Return ``TIFFSetErrorHandler`` of each libtiff in this process: Pillow offers no way to it. Only Linux tells."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    paths = {line.split(maxsplit=5)[5] for line in lines if re.search(r"/libtiff[^/]*\.so[^/]*$", line)}
    found: list[Callable[[int | None], int | None]] = []
    for path in sorted(paths):
        try:
            function = ctypes.CDLL(path).TIFFSetErrorHandler
        except (OSError, AttributeError):
            continue
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
        found.append(function)
    return found


quiet = _Quiet()
