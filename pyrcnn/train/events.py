"""What happens in a training run, and who is told: callbacks, the files of the run's folder, and TensorBoard."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..texts import printable
from . import run_folder, state
from .progress import Log
from .run_folder import contact_sheet, curves
from .scoring import of_classes

_log = logging.getLogger("pyrcnn.train")
TENSORBOARD = "tensorboard"  # a folder, written where tensorboard is installed
_PAUSE = 10.0  # seconds between two drawings of the curves, so that short epochs are not spent on them
_MOST_SHOWN = 12  # classes whose AP is printed after each evaluation


@dataclass(frozen=True)
class StepEvent:
    """What ``on_step`` gets, each ``config.log_every`` steps and after the last one.

    Attributes:
        step: how many steps are done.
        steps: how many the run has.
        epoch: how many passes over the data that is.
        learning_rate: of the last step.
        losses: the mean of each loss since the last event; ``loss`` is their sum, ``gradient_norm`` the norm of all
            gradients before it was limited.

    Example::

        train.fit(model, train_data, on_step=lambda event: print(event.step, event.losses["loss"]))
    """

    step: int
    steps: int
    epoch: float
    learning_rate: float
    losses: dict[str, float]


@dataclass(frozen=True)
class EvaluationEvent:
    """What ``on_evaluation`` gets after each evaluation on the validation data.

    Attributes:
        step, steps, epoch: as in :class:`StepEvent`.
        scores: COCO's numbers (``AP`` …), those of keypoints (``keypoints_AP`` …) and of each class (``AP/NAME``).
        best: whether the weights are the best so far; then ``best.safetensors`` holds them.

    Example::

        train.fit(model, train_data, val_data, on_evaluation=lambda event: print(event.scores["AP"], event.best))
    """

    step: int
    steps: int
    epoch: float
    scores: dict[str, float]
    best: bool


@dataclass(frozen=True)
class Hooks:
    """What :func:`pyrcnn.train.fit` was told about the run besides its settings."""

    on_step: Callable[[StepEvent], Any] | None = None
    on_evaluation: Callable[[EvaluationEvent], Any] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


class RunLog(Log):
    """The log of a run, which also keeps the files of its folder up to date and calls the callbacks.

    Args:
        run: the run, with ``hooks``, ``resumed``, ``config``, ``model``, ``train_data`` and ``val_data``.
        arguments: those of :class:`~pyrcnn.train.progress.Log`; without a path, nothing is written.
    """

    def __init__(self, run: Any, *arguments: Any):
        super().__init__(*arguments)
        self.run = run
        self.folder: Path | None = self.path.parent if self.path else None
        self.drawn = -_PAUSE
        self.writer: Any = None

    def __enter__(self) -> RunLog:
        if self.folder:
            try:
                self._begin(self.folder)
            except BaseException as error:
                self.__exit__(type(error), error, None)
                raise
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if self.writer:
            self.writer.close()
        if self.folder and (self.folder / state.LOG).exists():
            self._draw()
        elif self.folder and not (self.folder / state.CHECKPOINT).exists():  # the run has not begun
            self._clear(self.folder)

    def losses(self, step: int, epoch: float, learning_rate: float, losses: Mapping[str, float]) -> None:
        """Log the mean losses since the last call."""
        super().losses(step, epoch, learning_rate, losses)
        self._scalars(step, {"learning_rate": learning_rate, **{f"loss/{name}": v for name, v in losses.items()}})
        if self.run.hooks.on_step:
            self.run.hooks.on_step(StepEvent(step, self.steps, epoch, learning_rate, dict(losses)))

    def scores(self, step: int, epoch: float, scores: Mapping[str, float], best: bool) -> None:
        """Log the validation scores."""
        super().scores(step, epoch, scores, best)
        classes = of_classes(dict(scores))
        if 1 < len(classes) <= _MOST_SHOWN:
            shown = "  ".join(f"{printable(name)} {value:.3f}" for name, value in classes.items())
            self.say(f"  AP of {shown}")
        self._scalars(step, {f"val/{name}": value for name, value in scores.items()})
        if self.folder and time.monotonic() - self.drawn > _PAUSE:
            self._draw()
        if self.run.hooks.on_evaluation:
            self.run.hooks.on_evaluation(EvaluationEvent(step, self.steps, epoch, dict(scores), best))

    def validating(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` images of the validation data are done."""
        self.bar.update(self.task, description="training" if done == total else f"validating {done}/{total}")

    def _begin(self, folder: Path) -> None:
        """Write what is known before the first step."""
        run, resumed = self.run, self.run.resumed
        if not resumed and run.config.overwrite:
            shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
        run_folder.write(folder, run.config, run.model, run.train_data, run.val_data, run.hooks.about, resumed)
        if not resumed:
            contact_sheet.write(run.train_data, run.config, folder / state.SHEET)

    @staticmethod
    def _clear(folder: Path) -> None:
        for name in state.ABOUT:
            (folder / name).unlink(missing_ok=True)

    def _draw(self) -> None:
        """Write the table and the curves. What fails there is said, and does not end the run."""
        assert self.folder
        log = self.folder / state.LOG
        try:
            curves.write_table(log, self.folder / state.TABLE)
            curves.draw(log, self.folder / state.CURVES)
        except (OSError, InputError, ImportError) as error:
            if self.drawn < 0:
                _log.warning("%s cannot be drawn: %s", self.folder / state.CURVES, error)
        self.drawn = time.monotonic()

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.folder and self.writer is None:
            self.writer = _tensorboard(self.folder, self.start)
        for name, value in values.items() if self.writer else ():
            self.writer.add_scalar(name, value, step)


def _tensorboard(folder: Path, start: int) -> Any:
    """Return TensorBoard's writer, which forgets what is after step ``start``; False if it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    return SummaryWriter(str(folder / TENSORBOARD), purge_step=start + 1)
