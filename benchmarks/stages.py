"""Where a detector's time goes, from picture to boxes, on the run itself: its own methods are timed where they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from benchmarks.race import synchronize

# stage → what is timed: a method, or the forward of a part; a stage inside another is not counted twice
CENTERNET = {"network": ("backbone.forward", "neck.forward", "head.forward"), "peaks and boxes": ("predict_padded",)}
FASTER_RCNN = {
    "network": ("backbone.forward", "rpn.head.forward", "roi.head.forward", "roi.predictor.forward"),
    "proposals": ("rpn.propose",),
    "region pooling": ("roi.pool",),
    "classes and boxes": ("roi.detect",),
}
REST = "rest"  # trimming and going back to the picture's pixels, and the calls between the stages


class Clock:
    """Seconds per stage; while a stage runs inside another, only the inner one's time counts."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = {}
        self.running = [REST]
        self.since = self._now()

    def _now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    def switch(self, stage: str | None) -> None:
        """Begin ``stage`` inside the present one, or, with None, end the present one."""
        now = self._now()
        self.seconds[self.running[-1]] = self.seconds.get(self.running[-1], 0.0) + now - self.since
        if stage is None:
            self.running.pop()
        else:
            self.running.append(stage)
        self.since = now

    @contextmanager
    def timing(self, owner: Any, method: str, stage: str) -> Iterator[None]:
        """Count what ``owner.method`` takes as ``stage``."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.switch(stage)
            try:
                return original(*args, **kwargs)
            finally:
                self.switch(None)

        setattr(owner, method, timed)  # on the object, in front of its class's
        try:
            yield
        finally:
            delattr(owner, method)


def split(model: Any, image: torch.Tensor, device: torch.device, rounds: int = 3) -> dict[str, float]:
    """Seconds per stage of ``model([image])``, plain or optimized: the round that took least of all in all."""
    inner = getattr(model, "model", model)
    stages = CENTERNET if hasattr(inner, "heads") else FASTER_RCNN
    best: dict[str, float] = {}
    for _ in range(rounds + 1):  # the first warms up
        with ExitStack() as stack:
            clock = Clock(device)
            stack.enter_context(clock.timing(model, "preprocess", "preprocessing"))
            for stage, methods in stages.items():
                for path in methods:
                    parts, _, method = path.rpartition(".")
                    owner = inner.get_submodule(parts) if parts else model
                    stack.enter_context(clock.timing(owner, method, stage))
            clock.since = clock._now()
            model([image])
            clock.switch(REST)
        if not best or sum(clock.seconds.values()) < sum(best.values()):
            best = clock.seconds
    return {stage: best[stage] for stage in ("preprocessing", *stages, REST)}
