"""Progress on the terminal, and the log file ``metrics.jsonl`` with one JSON object per line."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ..errors import InputError, needing

_SILENCE = 10.0  # seconds


class Log:
    """Shows a progress bar with an estimate on a terminal, plain lines elsewhere, and writes ``metrics.jsonl``."""

    def __init__(self, path: Path | None, steps: int, start: int, quiet: bool = False, new: bool = True):
        with needing("rich", "showing the progress of a training"):
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
        self.steps, self.start, self.began = steps, start, time.monotonic()
        self.spoke: float | None = None  # when the last line was printed
        self.console = Console(stderr=True, quiet=quiet)
        self.path = path
        # A new run creates the file, so that of two runs that begin at one time in one folder only one goes on.
        self.file = _opened(path, new) if path else None
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=self.console,
            disable=quiet or not self.console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("training", total=steps, completed=start)

    def __enter__(self) -> Log:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        if self.path and self.file:
            self.file.close()
            with contextlib.suppress(OSError):
                if error is not None and self.path.stat().st_size == 0:
                    self.path.unlink()  # the run has not begun: the folder is free for the next

    def advance(self, step: int) -> None:
        """Show that ``step`` steps are done; where there is no bar, after the first step and every ten seconds."""
        self.bar.update(self.task, completed=step)
        if self.spoke is None or time.monotonic() - self.spoke > _SILENCE:
            self._estimate(f"step {step}/{self.steps}", step)

    def losses(self, step: int, epoch: float, learning_rate: float, losses: Mapping[str, float]) -> None:
        """Log the mean losses since the last call."""
        self._write(step=step, epoch=round(epoch, 3), learning_rate=learning_rate, **losses)
        text = f"step {step}/{self.steps}  epoch {epoch:.1f}  loss {losses['loss']:.3f}"
        self.bar.update(self.task, description=text)
        self._estimate(text, step)

    def scores(self, step: int, epoch: float, scores: Mapping[str, float], best: bool) -> None:
        """Log the validation scores."""
        self._write(step=step, epoch=round(epoch, 3), **{f"val_{k}": v for k, v in scores.items()})
        shown = "  ".join(
            f"{name} {value:.3f}" for name, value in scores.items() if name in ("AP", "AP50", "AR100", "AR")
        )
        self.say(f"epoch {epoch:.1f}  validation {shown}{'  (best)' if best else ''}")

    def _estimate(self, text: str, step: int) -> None:
        if self.bar.disable and step > self.start:
            self.spoke = time.monotonic()
            seconds = (self.spoke - self.began) / (step - self.start)
            days, rest = divmod(int(seconds * (self.steps - step)), 86400)
            left = (f"{days} d " if days else "") + time.strftime("%H:%M:%S", time.gmtime(rest))
            self.say(f"{text}  {seconds:.2f} s/step  left {left}")

    def say(self, line: str) -> None:
        """Print a line beside the bar."""
        with contextlib.suppress(OSError):  # what is only said does not end the run
            self.console.print(line, highlight=False, markup=False)

    def _write(self, **values: Any) -> None:
        if self.file:
            try:
                self.file.write((json.dumps(values) + "\n").encode())
            except OSError as error:
                raise InputError(f"out: {self.path} cannot be written: {error.strerror}") from None


def _opened(path: Path, new: bool) -> BinaryIO:
    """``path`` opened to append to, without a buffer, which a full disk would leave behind."""
    try:
        return path.open("xb" if new else "ab", buffering=0)  # type: ignore[return-value]
    except FileExistsError:
        raise InputError(f"out must be a folder without a run, got {path.parent}: another run began there") from None
    except OSError as error:
        raise InputError(f"out: {path} cannot be written: {error.strerror}") from None
