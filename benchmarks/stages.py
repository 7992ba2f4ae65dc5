"""Where a detector's time goes, from picture to boxes, on the run itself: its own methods are timed where they are.

``python -m benchmarks.stages NAME [--plain] [--openvino] …`` prints the stages of one preset at batch 1, and the
layers that its time is spent in, of one kind and shape together; with ``--openvino`` beside OpenVINO's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from benchmarks.race import synchronize
from pyrcnn.deploy.chain import ConvChains

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

    def __init__(self, device: torch.device, timer: Callable[[], float] = time.perf_counter):
        self.device, self.timer = device, timer
        self.seconds: dict[str, float] = {}
        self.running = [REST]
        self.since = self._now()

    def _now(self) -> float:
        synchronize(self.device)
        return self.timer()

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


def split(model: Any, image: torch.Tensor, device: torch.device, rounds: int = 3,
          timer: Callable[[], float] = time.perf_counter) -> dict[str, float]:  # fmt: skip
    """Seconds per stage of ``model([image])``, plain or optimized: the round that took least of all in all."""
    inner = getattr(model, "model", model)
    stages = CENTERNET if hasattr(inner, "heads") else FASTER_RCNN
    best: dict[str, float] = {}
    for _ in range(rounds + 1):  # the first warms up
        with ExitStack() as stack:
            clock = Clock(device, timer)
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


def layers(model: nn.Module, image: torch.Tensor, device: torch.device, timer: Callable[[], float],
           rounds: int = 10) -> list[tuple[float, int, str]]:  # fmt: skip
    """Seconds and calls per picture of the layers of one kind and shape, in the best round, the dearest first."""
    found: dict[str, list[tuple[float, int]]] = {}
    began = 0.0

    def before(*_: Any) -> None:
        nonlocal began
        synchronize(device)
        began = timer()

    def after(layer: nn.Module, inputs: tuple[Any, ...], result: Any) -> None:
        synchronize(device)
        seconds = timer() - began
        if isinstance(result, torch.Tensor) and isinstance(inputs[0], torch.Tensor):
            shapes = " → ".join("x".join(map(str, t.shape)) for t in (inputs[0], result))
            what = f"{type(layer).__name__} {shapes}{' + input' if len(inputs) > 1 else ''}"
            spent, calls = now.get(what, (0.0, 0))
            now[what] = spent + seconds, calls + 1

    grouped: list[Any] = [layer for layer in model.modules() if isinstance(layer, ConvChains)]
    for group in grouped:
        group.forward = group.apart
    leaves = [layer for layer in model.modules() if not list(layer.children())]
    handles = [
        h for leaf in leaves for h in (leaf.register_forward_pre_hook(before), leaf.register_forward_hook(after))
    ]
    for _ in range(rounds):
        now: dict[str, tuple[float, int]] = {}
        model([image])
        for what, cost in now.items():
            found.setdefault(what, []).append(cost)
    for handle in handles:
        handle.remove()
    for group in grouped:
        del group.forward
    return sorted(((*min(costs), what) for what, costs in found.items()), reverse=True)


def beside_openvino(model: nn.Module, plain: nn.Module, image: torch.Tensor, rounds: int, top: int) -> None:
    """Print the layers of ``model`` and OpenVINO's of ``plain``, by their shapes, each in its best of the rounds."""
    from benchmarks.openvino_layers import OpenVinoLayers

    theirs = OpenVinoLayers(plain, image)
    theirs(), model([image])
    best: list[dict[str, tuple[float, int]]] = [{}, {}]
    rest = float("inf")
    for _ in range(rounds):
        ours: dict[str, tuple[float, int]] = {}
        for seconds, calls, what in layers(model, image, image.device, time.perf_counter, 1):
            shapes = what.partition(" ")[2].removesuffix(" + input")  # OpenVINO adds inside its layers too
            spent, before = ours.get(shapes, (0.0, 0))
            ours[shapes] = spent + seconds, before + calls
        found, other = theirs()
        rest = min(rest, other)
        for kept, new in zip(best, (ours, found), strict=True):
            for shapes, cost in new.items():
                kept[shapes] = min(kept.get(shapes, cost), cost)
    print("\n| convolution, input → result | calls | ms | OpenVINO's ms | ours / theirs |\n|---|---|---|---|---|")
    common = sorted(best[0].keys() & best[1].keys(), key=lambda shapes: best[0][shapes], reverse=True)
    rows = [(shapes, best[0][shapes][1], best[0][shapes][0], best[1][shapes][0]) for shapes in common]
    more = rows[top:]
    shown = [*rows[:top], (f"{len(more)} more", sum(r[1] for r in more), *(sum(r[i] for r in more) for i in (2, 3)))]
    for what, calls, a, b in [*shown, ("all of them", *(sum(r[i] for r in rows) for i in (1, 2, 3)))]:
        print(f"| {what} | {calls} | {1e3 * a:.2f} | {1e3 * b:.2f} | {a / b if b else 1:.2f} |")
    print(f"\nOpenVINO's other operators: {1e3 * rest:.1f} ms.")


def main() -> None:
    """The command line."""
    from benchmarks.bench_models import picture
    from benchmarks.weights import behave
    from pyrcnn import deploy, models

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=models.names())
    parser.add_argument("--plain", action="store_true", help="the model itself, not optimized")
    parser.add_argument(
        "--processor-time", action="store_true", help="count it instead: for one thread, a busy machine"
    )
    parser.add_argument("--openvino", action="store_true", help="its convolutions beside ours, none in chains")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=10, help="of which the quickest counts")
    parser.add_argument("--top", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    image = picture(arguments.model, device)
    plain = behave(models.build(arguments.model).eval(), image.cpu()).to(device)
    model = plain if arguments.plain else deploy.optimize(plain, "auto", chain=not arguments.openvino)
    with torch.inference_mode():
        timer = time.process_time if arguments.processor_time else time.perf_counter
        parts = split(model, image, device, rounds=arguments.rounds, timer=timer)
        costs = [] if arguments.openvino else layers(model, image, device, timer, arguments.rounds)
    print("| stage | ms | share |\n|---|---|---|")
    for stage, seconds in parts.items():
        print(f"| {stage} | {1e3 * seconds:.2f} | {seconds / sum(parts.values()):.1%} |")
    if arguments.openvino:
        with torch.inference_mode():
            beside_openvino(model, plain, image, arguments.rounds, arguments.top)
        return
    print("\n| layers, input → result | calls | ms | share |\n|---|---|---|---|")
    for seconds, calls, what in costs[: arguments.top]:
        print(f"| {what} | {calls} | {1e3 * seconds:.2f} | {seconds / sum(parts.values()):.1%} |")
    rest = sum(seconds for seconds, _, _ in costs[arguments.top :])
    print(f"| {max(len(costs) - arguments.top, 0)} more | | {1e3 * rest:.2f} | {rest / sum(parts.values()):.1%} |")


if __name__ == "__main__":
    main()
