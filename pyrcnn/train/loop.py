"""One training run: steps, scores, checkpoints, and a clean end when it is interrupted."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoints, evaluate
from ..data import CocoDataset, aspect_groups, batches
from ..errors import InputError, require
from ..memory import keep_freed_memory
from ..models.wrapping import PARALLEL, unwrap
from . import state as files
from .config import TrainConfig
from .labels import with_flip_pairs
from .progress import Log
from .schedule import Average, make_optimizer, set_rate


@dataclass(frozen=True)
class Result:
    """What :func:`pyrcnn.train.fit` returns.

    Attributes:
        steps: how many steps were made.
        scores: the last scores on the validation data; empty without it.
        best: the best AP, or None without validation data.
        best_file: the weights with the best AP, or None.
        last_file: the last weights, or None if ``config.out`` is None.
    """

    steps: int
    scores: dict[str, float]
    best: float | None
    best_file: Path | None
    last_file: Path | None


class Run:
    """The state of one call of :func:`pyrcnn.train.fit`."""

    def __init__(
        self, model: nn.Module, train_data: Any, val_data: CocoDataset | None, config: TrainConfig, quiet: bool
    ):
        # DistributedDataParallel sums gradients when it is called. A compiled model is trained without compilation:
        # each size of images would be compiled anew.
        self.given, self.caller, model = model, unwrap(model, keep=PARALLEL), unwrap(model)
        self.model, self.train_data, self.val_data = model, train_data, val_data
        self.config, self.quiet = config, quiet
        self.device = _device(config.device)
        self.out = files.make_folder(config.out, config.resume, config.overwrite) if config.out else None
        self.checkpoint = self.out / files.CHECKPOINT if self.out else None
        self.step, self.best, self.scores = 0, None, {}  # type: tuple[int, float | None, dict[str, float]]
        self.interrupted: int | None = None
        self.sums: dict[str, Tensor] = {}
        if self.device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(config.seed)
        model.to(self.device)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(model, config)
        self.average = Average(model, config.ema) if config.ema else None
        self.identity = files.identity(config, model, len(train_data))
        resumed = self._resume()
        groups = aspect_groups(train_data) if config.group_by_aspect and isinstance(train_data, CocoDataset) else None
        augment = with_flip_pairs(config.augment, train_data)
        self.batches, per_epoch = batches(
            train_data, config.batch_size, augment, seed=config.seed, workers=config.workers, groups=groups,
            start=self.step * config.accumulate,
        )  # fmt: skip
        self.steps_per_epoch = per_epoch / config.accumulate
        self.steps = config.steps or max(1, round(config.epochs * self.steps_per_epoch))
        if resumed is not None:
            files.set_random_state(resumed["random"])

    def go(self) -> Result:
        """Train to the end, or until interrupted."""
        config = self.config
        every = max(1, round(config.evaluate_every * self.steps_per_epoch)) if config.evaluate_every else self.steps
        saved = time.monotonic()
        if self.out and config.overwrite and not config.resume:
            files.remove_run(self.out)
        self._train_mode()
        with self._signals(), Log(self.out and self.out / files.LOG, self.steps, self.step, self.quiet) as log:
            while self.step < self.steps:
                learning_rate = self._update()
                log.advance(self.step)
                last = self.step == self.steps
                if self.step % config.log_every == 0 or last:
                    log.losses(self.step, self.epoch, learning_rate, self._means())
                if self.val_data is not None and (self.step % every == 0 or last):
                    log.scores(self.step, self.epoch, *self._evaluate())
                due = time.monotonic() - saved >= config.checkpoint_minutes * 60
                if due or last or self.interrupted is not None:
                    self._save()
                    saved = time.monotonic()
                if self.interrupted is not None and not last:
                    where = f"; {self.checkpoint} continues it with resume=True (--resume)" if self.checkpoint else ""
                    raise KeyboardInterrupt(f"stopped after step {self.step} of {self.steps}{where}")
        if self.average:
            self.average.swap(self.model)
        self.given.eval()
        last_file = self.out / files.LAST if self.out else None
        if last_file:
            checkpoints.save(self.model, last_file)
        best_file = self.out / files.BEST if self.out and self.best is not None else None
        return Result(self.step, self.scores, self.best, best_file, last_file)

    @property
    def epoch(self) -> float:
        """The number of passes over the data so far."""
        return self.step / self.steps_per_epoch

    def _update(self) -> float:
        """Make one step: forward and backward of ``accumulate`` batches, then one update. Return the learning rate."""
        config = self.config
        learning_rate = set_rate(self.optimizer, self.step, self.steps, config)
        for _ in range(config.accumulate):
            images, targets = next(self.batches)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16):
                losses = self.caller([i.to(self.device, non_blocking=True) for i in images],
                                     [t.to(self.device, non_blocking=True) for t in targets])  # fmt: skip
            loss = torch.stack([value.float() for value in losses.values()]).sum()
            (loss / config.accumulate).backward()
            for name, value in {"loss": loss, **losses}.items():
                share = value.detach().float() / config.accumulate
                self.sums[name] = self.sums[name] + share if name in self.sums else share
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm or torch.inf)
        self.sums["gradient_norm"] = self.sums.get("gradient_norm", 0.0) + norm.detach()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.sums["steps"] = self.sums.get("steps", torch.zeros(())) + 1
        if self.average:
            self.average.update(self.model, self.step)
        return learning_rate

    def _means(self) -> dict[str, float]:
        """Return the mean losses since the last call; raise if one is not finite, before a checkpoint is written."""
        self._check_finite()
        count = self.sums.pop("steps", torch.ones(()))
        means = {name: float(value) / float(count) for name, value in self.sums.items()}
        self.sums = {}
        return means

    def _check_finite(self) -> None:
        bad = [f"{name} {float(value)}" for name, value in self.sums.items() if not torch.isfinite(value)]
        if bad:
            hint = "use a lower learning_rate or a longer warmup"
            raise FloatingPointError(f"training diverged before step {self.step} ({', '.join(bad)}): {hint}")

    def _evaluate(self) -> tuple[dict[str, float], bool]:
        """Score the (averaged) weights and save them if they are the best. Return (scores, whether they are)."""
        assert self.val_data is not None
        if self.average:
            self.average.swap(self.model)
        try:
            results = evaluate.predict(self.model, self.val_data)
            self.scores = evaluate.coco(results, self.val_data)
            if evaluate.scores_keypoints(self.val_data) and results and "keypoints" in results[0]:
                of_keypoints = evaluate.coco(results, self.val_data, keypoints=True)
                self.scores |= {f"keypoints_{name}": value for name, value in of_keypoints.items()}
            better = self.best is None or self.scores["AP"] > self.best
            if better:
                self.best = self.scores["AP"]
                if self.out:
                    checkpoints.save(self.model, self.out / files.BEST)
        finally:
            if self.average:
                self.average.swap(self.model)
        self._train_mode()
        return self.scores, better

    def _train_mode(self) -> None:
        self.given.train()
        if self.config.freeze_norm:
            for module in self.model.get_submodule("backbone").modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        self._check_finite()
        files.write(self.checkpoint, {
            "identity": self.identity, "step": self.step, "best": self.best, "scores": self.scores, "sums": self.sums,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "average": self.average.values if self.average else None, "random": files.random_state(),
        })  # fmt: skip

    def _resume(self) -> dict[str, Any] | None:
        """Restore model, optimizer and average from the checkpoint and return it; None for a new run."""
        if self.checkpoint is None:
            require(
                not self.config.resume,
                "resume must be False without out, got True; set out to the folder of the run to continue",
            )
            return None
        if not self.config.resume:
            return None
        found = files.read(self.checkpoint, self.identity)
        self.model.load_state_dict(found["model"])
        self.optimizer.load_state_dict(found["optimizer"])
        if self.average:
            for name, value in self.average.values.items():
                value.copy_(found["average"][name])
        self.step, self.best, self.scores = found["step"], found["best"], found["scores"]
        self.sums = {name: value.to(self.device) for name, value in found["sums"].items()}
        files.trim_log(self.checkpoint.with_name(files.LOG), self.step)
        return found

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM finish the step and write a checkpoint; a second signal stops at once."""

        def note(number: int, frame: FrameType | None) -> None:
            if self.interrupted is not None:
                raise KeyboardInterrupt
            self.interrupted = number

        if threading.current_thread() is not threading.main_thread():  # only the main thread may set signal handlers
            yield
            return
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device must be cpu or cuda, got {name!r}") from None
    require(device.type != "cuda" or torch.cuda.is_available(), f"device {name} is not available here, use cpu")
    return device
