"""How a detector's time divides into stages and layers, measured inside its own calls.

``python -m benchmarks.stages NAME [--plain] [--openvino] …`` prints the stages of one preset at batch 1, and the layers
that take the most time, those of one kind and shape together. ``--openvino`` prints OpenVINO's time beside ours. A
layer is a module without children; what an engine runs as one call is one layer.
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

from benchmarks.measuring.machine import limits
from benchmarks.measuring.timing import synchronize

PREPROCESSING, NETWORK, BOXES, REST = "preprocessing", "network", "peaks and boxes", "rest"
# stage → the submodule and its method that are this stage, in detectors that have it
TWO_STAGES = {
    "proposals": ("rpn", "propose"),
    "region pooling": ("roi", "pool"),
    "classes and boxes": ("roi", "detect"),
}


class Clock:
    """Seconds per stage. While a stage runs inside another one, only the inner stage counts."""

    def __init__(self, device: torch.device, timer: Callable[[], float] = time.perf_counter):
        self.device, self.timer = device, timer
        self.seconds: dict[str, float] = {}
        self.running = [REST]
        self.since = self._now()

    def _now(self) -> float:
        synchronize(self.device)
        return self.timer()

    def switch(self, stage: str | None) -> None:
        """Begin ``stage`` inside the current one; None: end the current one."""
        now = self._now()
        self.seconds[self.running[-1]] = self.seconds.get(self.running[-1], 0.0) + now - self.since
        if stage is None:
            self.running.pop()
        else:
            self.running.append(stage)
        self.since = now

    @contextmanager
    def timing(self, owner: Any, method: str, stage: str) -> Iterator[None]:
        """Count the time of ``owner.method`` as ``stage``."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.switch(stage)
            try:
                return original(*args, **kwargs)
            finally:
                self.switch(None)

        setattr(owner, method, timed)  # on the object: its class is unchanged
        try:
            yield
        finally:
            delattr(owner, method)


def timed_methods(model: Any) -> dict[str, list[tuple[Any, str]]]:
    """Stage → the objects and their methods that are timed for it; ``model`` is a detector, plain or optimized."""
    detector = getattr(model, "model", model)
    parts = [path for paths in detector.PARTS.values() for path in paths]
    stages = {PREPROCESSING: [(model, "preprocess")]}
    stages[NETWORK] = [(detector.get_submodule(path), "forward") for path in parts]
    inside = {stage: (part, method) for stage, (part, method) in TWO_STAGES.items() if hasattr(detector, part)}
    stages |= {stage: [(getattr(detector, part), method)] for stage, (part, method) in inside.items()}
    return stages if inside else stages | {BOXES: [(model, "predict_padded")]}


def split(model: Any, image: torch.Tensor, device: torch.device, rounds: int = 3,
          timer: Callable[[], float] = time.perf_counter) -> dict[str, float]:  # fmt: skip
    """Seconds per stage of ``model([image])`` in the fastest of the rounds; ``model`` is plain or optimized."""
    stages = timed_methods(model)
    best: dict[str, float] = {}
    for _ in range(rounds + 1):  # the first round warms up
        with ExitStack() as stack:
            clock = Clock(device, timer)
            for stage, methods in stages.items():
                for owner, method in methods:
                    stack.enter_context(clock.timing(owner, method, stage))
            clock.since = clock._now()
            model([image])
            clock.switch(REST)
        if not best or sum(clock.seconds.values()) < sum(best.values()):
            best = clock.seconds
    return {stage: best.get(stage, 0.0) for stage in (*stages, REST)}


def multiplications(layer: nn.Module, x: torch.Tensor, result: torch.Tensor) -> int:
    """How many multiplications a layer of torch needs to get from ``x`` to ``result``; 0 for other layers."""
    if isinstance(layer, nn.ConvTranspose2d):
        return x.numel() * math.prod(layer.weight.shape[1:])
    return result.numel() * math.prod(layer.weight.shape[1:]) if isinstance(layer, nn.Conv2d | nn.Linear) else 0


@dataclass
class Cost:
    """Seconds, calls, bytes and operations of all layers of one kind and shape."""

    seconds: float = 0.0
    calls: int = 0
    moved: int = 0
    operations: int = 0


def layers(model: nn.Module, image: torch.Tensor, device: torch.device, timer: Callable[[], float],
           rounds: int = 10) -> list[tuple[str, Cost]]:  # fmt: skip
    """The cost per image of the layers of each kind and shape in their fastest round, the most expensive first."""
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
    return sorted(found.items(), key=lambda pair: -pair[1].seconds)


def beside_openvino(model: nn.Module, plain: nn.Module, image: torch.Tensor, rounds: int, top: int) -> None:
    """Print the time of convolutions in ``model`` and in OpenVINO by shape, each in its fastest round."""
    from benchmarks.detectors.openvino_layers import OpenVinoLayers

    theirs = OpenVinoLayers(plain, image)
    theirs(), model([image])
    best: list[dict[str, tuple[float, int]]] = [{}, {}]
    rest = float("inf")
    for _ in range(rounds):
        ours: dict[str, tuple[float, int]] = {}
        for what, cost in layers(model, image, image.device, time.perf_counter, 1):
            shapes = what.partition(" ")[2].removesuffix(" + input")  # OpenVINO's convolutions add, too
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
    from benchmarks.bench_models import image_for, make_calibrated
    from pyrcnn import deploy, models

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=models.names())
    parser.add_argument("--plain", action="store_true", help="the model itself, not optimized")
    parser.add_argument(
        "--processor-time", action="store_true", help="count processor time: for one thread on a busy machine"
    )
    parser.add_argument("--openvino", action="store_true", help="OpenVINO's convolutions beside ours")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=10, help="the fastest one counts")
    parser.add_argument("--top", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    image = image_for(arguments.model, device)
    plain, _ = make_calibrated(arguments.model, False, image)
    model = plain if arguments.plain else deploy.optimize(plain, "auto", engine="native", chain=not arguments.openvino)
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
    print(
        "\n| layers, input → result | calls | ms | share | lower bound, ms | of the bound |\n|---|---|---|---|---|---|"
    )
    more = Cost()
    for _, cost in costs[arguments.top :]:
        more = Cost(*(a + b for a, b in zip(astuple(more), astuple(cost), strict=True)))
    for what, cost in [*costs[: arguments.top], (f"{max(len(costs) - arguments.top, 0)} more", more)]:
        bound = best.lower_bound(cost.moved, cost.operations)
        share = cost.seconds / sum(parts.values())
        times = f"{1e3 * bound:.2f} | {cost.seconds / bound:.2f}" if bound else "– | –"
        print(f"| {what} | {cost.calls} | {1e3 * cost.seconds:.2f} | {share:.1%} | {times} |")


if __name__ == "__main__":
    main()
