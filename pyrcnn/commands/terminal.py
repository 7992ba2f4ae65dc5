"""The one way of the commands to the terminal: messages, tables, JSON, progress bars.

Names are printed literally (see :func:`pyrcnn.texts.printable`), never cut or read as markup, and characters that the
terminal's encoding lacks as escapes. No other file of the command line prints.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from ..errors import InputError, needing
from ..texts import printable
from . import interrupts

UNWRITABLE = "standard output cannot be written"
Advance = Callable[[int], None]  # called with how much is done


def show(*lines: object) -> None:
    """Print lines of a result on standard output, at once, so that they are seen in a pipe too."""
    if _speaks():
        _write(sys.stdout, lines)


def note(*lines: object) -> None:
    """Print lines about the work on standard error."""
    if _speaks():
        _write(sys.stderr, lines)


def complain(message: object) -> None:
    """Print one line on standard error: what is wrong."""
    _write(sys.stderr, (f"pyrcnn: {message}",))


def _speaks() -> bool:
    """Whether this is the only process, or the first of those that ``torchrun`` started."""
    return "MASTER_ADDR" not in os.environ or os.environ.get("RANK", "0") == "0"


class Notes(logging.Handler):
    """``with Notes():`` prints what the package logs by :func:`note`; logging itself would print names as they are."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        note(record.getMessage())

    def __enter__(self) -> Notes:
        logging.getLogger("pyrcnn").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("pyrcnn").removeHandler(self)


def print_json(value: Any, indent: int | None = None) -> None:
    """Print one JSON value; numbers that JSON lacks (NaN, infinities) become null."""
    show(*json_text(value, indent).split("\n"))


def json_text(value: Any, indent: int | None = None) -> str:
    """One JSON value as text; numbers that JSON lacks (NaN, infinities) become null."""
    return json.dumps(_finite(value), indent=indent, default=str, allow_nan=False)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """Lines of aligned columns, as wide as their content; ``right`` names the columns that are aligned right."""
    lines = [[printable(cell) for cell in line] for line in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    aligned = [">" if name in right else "<" for name in header]
    cells = (
        [f"{text:{side}{width}}" for text, side, width in zip(line, aligned, widths, strict=True)] for line in lines
    )
    return ["  ".join(line).rstrip() for line in cells]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print :func:`table`."""
    show(*table(header, rows, right))


def print_pairs(title: str, values: Mapping[str, Any], as_json: bool) -> None:
    """Names and values, as a table or as one JSON object."""
    if as_json:
        print_json(values)
        return
    pairs = [(f"  {name}", f"{v:.3f}" if isinstance(v, float) else str(v)) for name, v in values.items()]
    show(title, *table(pairs[0], pairs[1:]))


def interactive(stream: TextIO | None) -> bool:
    """Whether ``stream`` is a terminal; a command may run without standard output."""
    return stream is not None and stream.isatty()


def forget(stream: TextIO | None) -> None:
    """Let what ``stream`` still holds go nowhere: it cannot be written, and Python would try again at exit."""
    with suppress(AttributeError, OSError):  # there is none, or it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


@contextmanager
def bar(what: str, total: int | None, quiet: bool = False) -> Iterator[Advance]:
    """``with bar(what, total) as advance: advance(done)``: a bar with an estimate, if standard error is a terminal.

    Without ``total``, which nobody knows, the bar shows only that the work goes on.

    ``advance`` raises ``KeyboardInterrupt`` after a Ctrl-C that was lost, see :mod:`~pyrcnn.commands.interrupts`.
    """
    if quiet or not interactive(sys.stderr):
        yield lambda done: interrupts.check()
        return
    with needing("rich", "showing progress"):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (_text_column(), BarColumn(), TaskProgressColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(printable(what), total=total)

        def advance(done: int) -> None:
            interrupts.check()
            progress.update(task, completed=done)

        yield advance


@contextmanager
def download_bar(url: str) -> Iterator[Callable[[int, int | None], None]]:
    """A function ``progress(done, total)`` in bytes: a bar on a terminal, elsewhere one line at the start."""
    if not interactive(sys.stderr):
        yield _announcement(url)
        return
    with needing("rich", "showing progress"):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

    transfer = (DownloadColumn(), TransferSpeedColumn(), TextColumn("left"), TimeRemainingColumn())
    progress = Progress(_text_column(), BarColumn(), *transfer, console=Console(stderr=True))
    task = progress.add_task(printable(url.rpartition("/")[2]), total=None)

    def display(done: int, total: int | None) -> None:
        progress.start()  # not before there is something to download
        progress.update(task, completed=done, total=total)

    try:
        yield display
    finally:
        progress.stop()


def _text_column() -> Any:
    from rich.progress import TextColumn

    return TextColumn("{task.description}", markup=False)


def _announcement(url: str) -> Callable[[int, int | None], None]:
    lines = [url]

    def display(done: int, total: int | None) -> None:
        if lines:
            size = f" ({total / 1e6:.0f} MB)" if total else ""
            note(f"downloading {lines.pop()}{size}")

    return display


def _write(stream: TextIO | None, lines: Sequence[object]) -> None:
    if stream is None:  # closed by who started the command
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = "\n".join(printable(line).encode(encoding, "backslashreplace").decode(encoding) for line in lines)
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        if stream is sys.stderr:  # what is only said does not end the work
            forget(stream)
            return
        if isinstance(error, BrokenPipeError):
            raise
        raise InputError(f"{UNWRITABLE}: {error.strerror or error}") from None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value
