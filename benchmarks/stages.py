"""Where a detector's time goes, from image to boxes, on the run itself: its own methods are timed where they are.

``python -m benchmarks.stages NAME [--plain] [--openvino] …`` prints the stages of one preset at batch 1, and the
layers that its time is spent in, of one kind and shape together; with ``--openvino`` beside OpenVINO's.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.machine import limits
from benchmarks.timing import synchronize
from pyrcnn.deploy.chain import ConvChain, ConvChains
from pyrcnn.deploy.tile_conv import TileConv2d
from pyrcnn.deploy.winograd import WinogradConv2d

# stage → what is timed: a method, or the forward of a part; a stage inside another is not counted twice
CENTERNET = {"network": ("backbone.forward", "neck.forward", "head.forward"), "peaks and boxes": ("predict_padded",)}
FASTER_RCNN = {
    "network": ("backbone.forward", "rpn.head.forward", "roi.head.forward", "roi.predictor.forward"),
    "proposals": ("rpn.propose",),
    "region pooling": ("roi.pool",),
    "classes and boxes": ("roi.detect",),
}
REST = "rest"  # trimming and going back to the image's pixels, and the calls between the stages


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


def multiplications(layer: nn.Module, x: torch.Tensor, result: torch.Tensor) -> int:
    """How many a layer needs for this input and result, without tricks that spare some; 0 where it has no weight."""
    pixels = result.numel() // result.shape[1]
    if isinstance(layer, ConvChain):
        chain = layer.chain
        middle, hidden, outputs = chain.channels
        each = middle * hidden + (0 if chain.last is None else hidden * outputs)
        each += 0 if chain.depthwise is None else 9 * middle
        return pixels * each + (0 if chain.expand is None else x.numel() * middle)
    if isinstance(layer, TileConv2d):
        return result.numel() * layer.shape[1] ** 2 * x.shape[1]
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, torch.Tensor):
        return 0
    if isinstance(layer, WinogradConv2d):
        return result.numel() * 9 * x.shape[1]
    return result.numel() * math.prod(weight.shape[1:])


@dataclass
class Cost:
    """What the layers of one kind and shape take: seconds and calls, and the bytes and operations of all the calls."""

    seconds: float = 0.0
    calls: int = 0
    moved: int = 0
    operations: int = 0


def layers(model: nn.Module, image: torch.Tensor, device: torch.device, timer: Callable[[], float],
           rounds: int = 10) -> list[tuple[str, Cost]]:  # fmt: skip
    """What the layers of one kind and shape cost per image in the best round, the dearest first."""
    found: dict[str, Cost] = {}
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
            cost = now.setdefault(what, Cost())
            cost.seconds += seconds
            cost.calls += 1
            cost.moved += sum(t.numel() * t.element_size() for t in (*inputs, result))
            cost.operations += 2 * multiplications(layer, inputs[0], result)

    grouped: list[Any] = [layer for layer in model.modules() if isinstance(layer, ConvChains)]
    for group in grouped:
        group.forward = group.apart
    leaves = [layer for layer in model.modules() if not list(layer.children())]
    handles = [
        h for leaf in leaves for h in (leaf.register_forward_pre_hook(before), leaf.register_forward_hook(after))
    ]
    for _ in range(rounds):
        now: dict[str, Cost] = {}
        model([image])
        for what, cost in now.items():
            found[what] = min(found.get(what, cost), cost, key=lambda c: c.seconds)
    for handle in handles:
        handle.remove()
    for group in grouped:
        del group.forward
    return sorted(found.items(), key=lambda pair: -pair[1].seconds)


def beside_openvino(model: nn.Module, plain: nn.Module, image: torch.Tensor, rounds: int, top: int) -> None:
    """Print the layers of ``model`` and OpenVINO's of ``plain``, by their shapes, each in its best of the rounds."""
    from benchmarks.openvino_layers import OpenVinoLayers

    theirs = OpenVinoLayers(plain, image)
    theirs(), model([image])
    best: list[dict[str, tuple[float, int]]] = [{}, {}]
    rest = float("inf")
    for _ in range(rounds):
        ours: dict[str, tuple[float, int]] = {}
        for what, cost in layers(model, image, image.device, time.perf_counter, 1):
            shapes = what.partition(" ")[2].removesuffix(" + input")  # OpenVINO adds inside its layers too
            spent, before = ours.get(shapes, (0.0, 0))
            ours[shapes] = spent + cost.seconds, before + cost.calls
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
    from benchmarks.bench_models import image
    from benchmarks.calibration import calibrate_
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
    image = image(arguments.model, device)
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
    best = limits(device.type, arguments.threads)
    print("\n| layers, input → result | calls | ms | share | floor, ms | of the floor |\n|---|---|---|---|---|---|")
    more = Cost()
    for _, cost in costs[arguments.top :]:
        more = Cost(*(a + b for a, b in zip(astuple(more), astuple(cost), strict=True)))
    for what, cost in [*costs[: arguments.top], (f"{max(len(costs) - arguments.top, 0)} more", more)]:
        floor = best.lower_bound(cost.moved, cost.operations)
        share = cost.seconds / sum(parts.values())
        times = f"{1e3 * floor:.2f} | {cost.seconds / floor:.2f}" if floor else "– | –"
        print(f"| {what} | {cost.calls} | {1e3 * cost.seconds:.2f} | {share:.1%} | {times} |")


if __name__ == "__main__":
    main()
