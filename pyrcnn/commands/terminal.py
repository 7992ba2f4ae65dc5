"""Tables, progress bars and messages of the commands. Names are printed literally, never cut or read as markup."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

Advance = Callable[[int], None]  # called with how much is done


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Lines of aligned columns, as wide as their content; ``right`` names the columns that are aligned right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    aligned = [">" if name in right else "<" for name in header]
    cells = (
        [f"{text:{side}{width}}" for text, side, width in zip(line, aligned, widths, strict=True)] for line in lines
    )
    return "\n".join("  ".join(line).rstrip() for line in cells)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print :func:`table` at once, so that a result is seen when it is known, in a pipe too."""
    print(table(header, rows, right), flush=True)


def print_pairs(title: str, values: Mapping[str, Any], as_json: bool) -> None:
    """Names and values, as a table or as one JSON object."""
    if as_json:
        print(json.dumps(values, default=str))
        return
    print(title)
    pairs = [(f"  {name}", f"{v:.3f}" if isinstance(v, float) else str(v)) for name, v in values.items()]
    print(table(pairs[0], pairs[1:]))


def complain(message: str) -> None:
    """Print one line on standard error."""
    print(f"pyrcnn: {message}", file=sys.stderr, flush=True)


@contextmanager
def bar(what: str, total: int, quiet: bool = False) -> Iterator[Advance]:
    """``with bar(what, total) as advance: advance(done)``: a bar with an estimate, if standard error is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def download_bar(url: str) -> Iterator[Callable[[int, int | None], None]]:
    """A function ``progress(done, total)`` in bytes: a bar on a terminal, elsewhere one line at the start."""
    if not sys.stderr.isatty():
        yield _announcement(url)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TextColumn("left"), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    task = progress.add_task(url.rpartition("/")[2], total=None)

    def show(done: int, total: int | None) -> None:
        progress.start()  # not before there is something to download
        progress.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        progress.stop()


def _announcement(url: str) -> Callable[[int, int | None], None]:
    lines = [url]

    def show(done: int, total: int | None) -> None:
        if lines:
            size = f" ({total / 1e6:.0f} MB)" if total else ""
            print(f"downloading {lines.pop()}{size}", file=sys.stderr, flush=True)

    return show
