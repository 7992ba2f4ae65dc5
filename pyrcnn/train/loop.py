"""One training run: steps, scores, checkpoints, and a clean end when it is interrupted."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import checkpoints, evaluate
from ..data import BatchOrder, CocoDataset, aspect_groups
from ..data.loader import seed_from, seeded_batches
from ..errors import require
from ..memory import keep_freed_memory
from ..models.wrapping import unwrap
from . import state as files
from .config import TrainConfig
from .distributed import Norms, World, job
from .events import Hooks, RunLog
from .labels import with_flip_pairs
from .losses import Losses
from .schedule import Average, make_optimizer, make_scheduler
from .scoring import score
from .speed import channels_last, precision_on
from .stopping import Signals


@dataclass(frozen=True)
class Result:
    """What :func:`pyrcnn.train.fit` returns, in each process that trains.

    Attributes:
        steps: how many steps were made.
        scores: the last scores on the validation data, with ``AP/NAME`` for each class; empty without such data.
        best: the best score by ``config.best_by``, or None without validation data.
        best_file: the weights with the best score, or None.
        last_file: the last weights, or None if ``config.out`` is None.

    Example::

        result = train.fit(model, train_data, val_data)
        print(result.best, result.best_file)
    """

    steps: int
    scores: dict[str, float]
    best: float | None
    best_file: Path | None
    last_file: Path | None


class _Interrupted(Exception):
    """Ends a prediction that a signal has come into."""


class Run:
    """The state of one call of :func:`pyrcnn.train.fit`."""

    hooks = Hooks()

    def __init__(self, model: nn.Module, train_data: Any, val_data: CocoDataset | None, config: TrainConfig,
                 quiet: bool, world: World):  # fmt: skip
        self.given, self.model = model, unwrap(model)
        self.train_data, self.val_data, self.config, self.world = train_data, val_data, config, world
        self.quiet = quiet or not world.first
        self.out, self.resumed = world.on_first(files.open_folder, config)
        self.checkpoint = self.out / files.CHECKPOINT if self.out else None
        self.step, self.best, self.scores = 0, None, {}  # type: tuple[int, float | None, dict[str, float]]
        self.scored = 0  # the step of the last scores
        self.saved: tuple[int, int] | None = None  # the step and the scored step of the last checkpoint
        self.sums: dict[str, Tensor] = {}
        if world.device.type == "cpu":
            keep_freed_memory()
        self._seed(0)
        self.model.to(world.device)
        if channels_last(config, world.device, self.model):
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._set_modes()
        self.norms = Norms(self.model, world)
        self.norms.train()
        precision = precision_on(config, world.device)
        self.losses = Losses(model, self.model, config, world, precision)
        self.optimizer = make_optimizer(self.model, config)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=precision == "float16")
        self.average = Average(self.model, config.ema) if config.ema else None
        self.identity = files.identity(config, self.model, len(train_data))
        if self.resumed:
            self._resume()
        groups = aspect_groups(train_data) if config.group_by_aspect and isinstance(train_data, CocoDataset) else None
        order = BatchOrder(
            len(train_data), config.batch_size, config.seed, groups, self.step * config.accumulate,
            part=(world.rank, world.size),
        )  # fmt: skip
        self.batch_size = min(config.batch_size, len(train_data))
        augment = with_flip_pairs(config.augment, train_data)
        self.batches = seeded_batches(train_data, order, augment, config.workers)
        self.steps_per_epoch = order.per_epoch / config.accumulate
        self.steps = config.steps or max(1, round(config.epochs * self.steps_per_epoch))
        every = config.evaluate_every * self.steps_per_epoch or self.steps
        self.evaluate_every = max(1, round(every))
        self.scheduler = make_scheduler(self.optimizer, self.step, self.steps, config)
        self.summary = self._summary(precision)

    def _summary(self, precision: str) -> str:
        size, world = self.batch_size, self.world
        lines = [f"{world.device.type}, {precision}, {size} images per batch"]
        if size < self.config.batch_size:
            lines.append(f"batch_size {self.config.batch_size} exceeds the {size} images of train_data")
        if world.size > 1:
            lines[0] += f" of {world.size} processes"
            if size % world.size:
                lines.append("the processes' shares of a batch differ, so that some wait")
        if self.norms.local:
            lines.append("batch norms use the images of one process; set freeze_norm, or train on GPUs, to avoid it")
        elif self.norms.synchronized:
            lines.append("batch norms use the images of all processes")
        return "; ".join(lines)

    def go(self) -> Result:
        """Train to the end, or until interrupted."""
        if self.world.first and self.out and self.config.overwrite and not self.resumed:
            files.remove_run(self.out)
        if self.world.first and not self.resumed and job():  # from which a restarted group continues
            self._save()
        path = self.out / files.LOG if self.out and self.world.first else None
        self.saved_at = time.monotonic()
        begun = (path, self.steps, self.step, self.quiet, not self.resumed)
        with Signals() as self.signals, RunLog(self, *begun) as log:
            log.say(self.summary)
            if self.resumed:  # it may have been interrupted before the scores of its last step
                self._end_step(log)
            while self.step < self.steps:
                learning_rate = self._update()
                log.advance(self.step)
                if self.step % self.config.log_every == 0 or self.step == self.steps:
                    log.losses(self.step, self.epoch, learning_rate, self._means())
                self._end_step(log)
        if self.average:
            self.average.swap(self.model)
        self.norms.restore()
        self.given.eval()
        last_file = self.out / files.LAST if self.out else None
        if last_file:
            self.world.on_first(checkpoints.save, self.model, last_file)
        best_file = self.out / files.BEST if self.out and self.best is not None else None
        self.world.wait()
        return Result(self.step, self.scores, self.best, best_file, last_file)

    @property
    def epoch(self) -> float:
        """The number of passes over the data so far."""
        return self.step / self.steps_per_epoch

    def _update(self) -> float:
        """Make one step: forward and backward of ``accumulate`` batches, then one update. Return the learning rate."""
        config = self.config
        learning_rate = float(self.scheduler.get_last_lr()[-1])
        images = len(self.world.share(self.batch_size))
        for number in range(config.accumulate):
            self._seed(self.step * config.accumulate + number)
            last = number == config.accumulate - 1
            losses = self.losses.backward(next(self.batches), images, self.scaler, 1 / config.accumulate, last)
            for name, value in losses.items():
                self._sum(name, value / config.accumulate)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm or torch.inf)
        if self.scaler.is_enabled():  # infinite where float16 overflows; the scaler leaves out that update
            norm = torch.where(norm.isfinite(), norm, 0.0)
        self._sum("gradient_norm", norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._sum("steps", torch.ones(()))
        if self.average:
            self.average.update(self.model, self.step)
        return learning_rate

    def _sum(self, name: str, value: Tensor) -> None:
        value = value.detach().float()
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def _seed(self, number: int) -> None:
        """Seed what draws from the global generators (dropout, a user's data set) by the number of the batch.

        A checkpoint therefore needs no state of generators, and each process draws other numbers.
        """
        seed = seed_from(self.config.seed, number, self.world.rank)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)

    def _means(self) -> dict[str, float]:
        """Return the mean losses since the last call; raise if one is not finite, before a checkpoint is written."""
        sums = self._finite_sums()
        count = sums.pop("steps")
        self.sums = {}
        return {name: value / count for name, value in sums.items()}

    def _finite_sums(self) -> dict[str, float]:
        if not self.sums:
            return {}
        device = self.world.device  # one transfer for all values
        values = torch.stack([value.to(device, non_blocking=True) for value in self.sums.values()]).tolist()
        sums = dict(zip(self.sums, values, strict=True))
        bad = [f"{name} {value}" for name, value in sums.items() if not np.isfinite(value)]
        if bad:
            hint = "use a lower learning_rate or a longer warmup"
            raise FloatingPointError(f"training diverged before step {self.step} ({', '.join(bad)}): {hint}")
        return sums

    def _end_step(self, log: RunLog) -> None:
        """Score and write a checkpoint, if it is time; raise ``KeyboardInterrupt`` if a signal has come."""
        due = time.monotonic() - self.saved_at >= self.config.checkpoint_minutes * 60
        stop, due = self.world.highest(self.signals.came, due and self.world.first)  # type: ignore[assignment]
        if self._scores_due and not stop:
            stop = not self._evaluate(log)
        complete = self.step == self.steps and not self._scores_due
        if (due or stop or complete) and self.saved != (self.step, self.scored):
            self._save()
        if stop and not complete:
            where = f"; {self.checkpoint} continues it with resume=True (--resume)" if self.checkpoint else ""
            raise KeyboardInterrupt(f"stopped after step {self.step} of {self.steps}{where}")

    @property
    def _scores_due(self) -> bool:
        now = self.step % self.evaluate_every == 0 or self.step == self.steps
        return self.val_data is not None and now and self.scored != self.step

    def _evaluate(self, log: RunLog) -> bool:
        """Score the (averaged) weights and save them if they are the best. Return False if a signal came meanwhile."""
        assert self.val_data is not None
        if self.average:
            self.average.swap(self.model)
        self.norms.restore()
        try:
            share = self.world.share(len(self.val_data))
            part = self.val_data if self.world.size == 1 else self.val_data.select(share)
            results: Any = None
            with contextlib.suppress(_Interrupted):
                results = evaluate.predict(self.model, part, progress=partial(self._validating, log))
            if any(self.world.highest(results is None)):
                return False
            found = self.world.gather((results, part.report.unreadable))
            self.scores, self.best, better = self.world.on_first(self._score, found)
        finally:
            if self.average:
                self.average.swap(self.model)
            self._set_modes()
            self.norms.train()
        self.scored = self.step
        log.scores(self.step, self.epoch, self.scores, better)
        return True

    def _validating(self, log: RunLog, done: int, total: int) -> None:
        log.validating(done, total)
        if self.signals.came:
            raise _Interrupted

    def _score(self, found: list[tuple[list[dict[str, Any]], set[Any]]]) -> tuple[dict[str, float], float, bool]:
        """Return the scores of the results of all processes, the best so far and whether it is these."""
        scores = self._scores(found)
        score = self.best_score(scores, self.config.best_by)
        better = self.best is None or score > self.best
        if better and self.out:
            checkpoints.save(self.model, self.out / files.BEST)
        return scores, score if self.best is None else max(self.best, score), better

    def _scores(self, found: list[tuple[list[dict[str, Any]], set[Any]]]) -> dict[str, float]:
        assert self.val_data is not None
        results = [result for part, _ in found for result in part]
        self.val_data.report.unreadable.update(*(unreadable for _, unreadable in found))
        return score(results, self.val_data)

    @staticmethod
    def best_score(scores: Mapping[str, float], by: str) -> float:
        """Return the score that decides which weights are the best; ``by`` is ``TrainConfig.best_by``."""
        if by == "auto":
            by = "keypoints_AP" if "keypoints_AP" in scores else "AP"
        require(by in scores, f"best_by must be 'auto' or one of {', '.join(scores)}, got {by!r}")
        return scores[by]

    def _set_modes(self) -> None:
        self.given.train()
        if self.config.freeze_norm:
            for module in self.model.get_submodule("backbone").modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _save(self) -> None:
        """Write a checkpoint. All processes look whether the losses are finite; the first one writes."""
        self._finite_sums()
        self.saved, self.saved_at = (self.step, self.scored), time.monotonic()
        if self.checkpoint and self.world.first:
            files.write(self.checkpoint, {
                "identity": self.identity, "job": job(), "step": self.step, "scored": self.scored, "best": self.best,
                "scores": self.scores, "sums": self.sums, "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(),
                "average": self.average.values if self.average else None,
            })  # fmt: skip

    def _resume(self) -> None:
        """Restore everything from the checkpoint, which the first process reads for all."""
        assert self.checkpoint is not None
        found = self.world.on_first(files.read, self.checkpoint, self.identity)
        self.model.load_state_dict(found["model"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.scaler.load_state_dict(found["scaler"])
        if self.average:
            for name, value in self.average.values.items():
                value.copy_(found["average"][name])
        self.step, self.scored, self.best = found["step"], found["scored"], found["best"]
        self.scores, self.saved = found["scores"], (self.step, self.scored)
        self.sums = {name: value.to(self.world.device) for name, value in found["sums"].items()}
        if self.world.first:
            files.trim_log(self.checkpoint.with_name(files.LOG), self.step, self.scored)
