"""Where a detector's time goes, from picture to boxes, on the run itself: its own methods are timed where they are.

``python -m benchmarks.stages NAME [--plain] [--threads N]`` prints the stages of one preset at batch 1, and the
operators that its time is spent in by the shapes of their inputs.
"""

from __future__ import annotations

import argparse
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


def operators(model: Any, image: torch.Tensor, rounds: int = 5) -> list[tuple[float, int, str]]:
    """Per operator and input shapes: milliseconds and calls per picture, and what it is; the dearest first."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if image.is_cuda else [])
    model([image])
    with profile(activities=activities, record_shapes=True) as run:
        for _ in range(rounds):
            model([image])
    rows = []
    for event in run.key_averages(group_by_input_shape=True):
        shapes = " ".join("x".join(map(str, shape)) for shape in event.input_shapes[:2] if shape)
        microseconds = event.self_device_time_total if image.is_cuda else event.self_cpu_time_total
        rows.append((microseconds / rounds / 1e3, round(event.count / rounds), f"{event.key} {shapes}"))
    return sorted(rows, reverse=True)


def main() -> None:
    """The command line."""
    from benchmarks.bench_models import picture
    from pyrcnn import deploy, models

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=models.names())
    parser.add_argument("--plain", action="store_true", help="the model itself, not optimized")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--top", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    plain = models.build(arguments.model).to(device).eval()
    model, image = plain if arguments.plain else deploy.optimize(plain, "auto"), picture(arguments.model, device)
    with torch.inference_mode():
        parts = split(model, image, device, rounds=10)
        costs = operators(model, image)
    print("| stage | ms | share |\n|---|---|---|")
    for stage, seconds in parts.items():
        print(f"| {stage} | {1e3 * seconds:.2f} | {seconds / sum(parts.values()):.1%} |")
    print("\n| operator, shapes of its first inputs | calls | ms | share |\n|---|---|---|---|")
    whole = sum(cost for cost, _, _ in costs)
    for cost, calls, what in costs[: arguments.top]:
        print(f"| {what} | {calls} | {cost:.2f} | {cost / whole:.1%} |")


if __name__ == "__main__":
    main()
