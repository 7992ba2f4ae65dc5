"""Progress on the terminal, and the log file ``metrics.jsonl`` with one JSON object per line."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Log:
    """Shows a progress bar with an estimate on a terminal, plain lines elsewhere, and writes ``metrics.jsonl``."""

    def __init__(self, path: Path | None, steps: int, start: int, quiet: bool = False):
        self.steps, self.start, self.began = steps, start, time.monotonic()
        self.console = Console(stderr=True, quiet=quiet)
        self.file = path.open("a") if path else None
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
        if self.file:
            self.file.close()

    def advance(self, step: int) -> None:
        """Show that ``step`` steps are done."""
        self.bar.update(self.task, completed=step)

    def losses(self, step: int, epoch: float, learning_rate: float, losses: Mapping[str, float]) -> None:
        """Log the mean losses since the last call."""
        self._write(step=step, epoch=round(epoch, 3), learning_rate=learning_rate, **losses)
        text = f"step {step}/{self.steps}  epoch {epoch:.1f}  loss {losses['loss']:.3f}"
        self.bar.update(self.task, description=text)
        if self.bar.disable and step > self.start:
            seconds = (time.monotonic() - self.began) / (step - self.start)
            left = time.strftime("%H:%M:%S", time.gmtime(seconds * (self.steps - step)))
            self.console.print(f"{text}  {seconds:.2f} s/step  left {left}", highlight=False)

    def scores(self, step: int, epoch: float, scores: Mapping[str, float], best: bool) -> None:
        """Log the validation scores."""
        self._write(step=step, epoch=round(epoch, 3), **{f"val_{k}": v for k, v in scores.items()})
        shown = "  ".join(
            f"{name} {value:.3f}" for name, value in scores.items() if name in ("AP", "AP50", "AR100", "AR")
        )
        self.console.print(f"epoch {epoch:.1f}  validation {shown}{'  (best)' if best else ''}", highlight=False)

    def _write(self, **values: Any) -> None:
        if self.file:
            self.file.write(json.dumps(values) + "\n")
            self.file.flush()
