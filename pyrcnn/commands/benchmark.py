"""``pyrcnn benchmark``: the latency of a model on this machine."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from .. import deploy, models
from ..checkpoints import bundled
from ..checkpoints.opening import BUNDLED
from ..errors import require
from . import terminal
from .common import check_device, open_model, parse_dtype, use_threads

MOST_PIXELS = 1 << 56  # more is no size that any memory has
WARM_UP = 2  # calls that choose algorithms and fill caches


def run(name: str | None, weights: str, device: str, batch: int, size: tuple[int, int], repeat: int, optimize: bool,
        dtype: str | None, engine: str | None, threads: int | None, json: bool) -> None:  # fmt: skip
    """Print milliseconds per call, from uint8 images to detections. A model without bundled weights has random ones."""
    good = min(size) > 0 and batch * size[0] * size[1] < MOST_PIXELS
    require(good, f"--size must be two positive numbers, for a batch that fits the memory, got {size[0]} {size[1]}")
    use_threads(threads)
    precision = parse_dtype(dtype)
    model = _model(name, weights, device)
    contenders = {"": model}
    if optimize or precision is not None or engine is not None:
        options: dict[str, Any] = {} if engine is None else {"engine": engine}
        contenders["optimized "] = deploy.optimize(model, precision, **options)
    terminal.print_pairs(
        "milliseconds per call", {"images": float(batch), **_times(contenders, batch, size, repeat)}, json
    )


def _model(name: str | None, weights: str, device: str) -> nn.Module:
    if weights == BUNDLED and name in models.names() and name not in bundled.weights():
        check_device(device)
        return models.build(name).to(device).eval()
    return open_model(name, weights, device)


def _times(contenders: dict[str, Any], batch: int, size: tuple[int, int], repeat: int) -> dict[str, float]:
    """Median, fastest and slowest of ``repeat`` calls of each; they take turns, so that all see the same machine."""
    # One tensor, so that more than the memory holds is refused at once.
    given = list(torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8))
    taken: dict[str, list[float]] = {label: [] for label in contenders}
    with torch.inference_mode():
        for _ in range(repeat + WARM_UP):
            for label, contender in contenders.items():
                began = time.perf_counter()
                contender(given)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                taken[label].append(1e3 * (time.perf_counter() - began))
    result: dict[str, float] = {}
    for label, times in taken.items():
        times = sorted(times[WARM_UP:])
        found = {"median": times[len(times) // 2], "fastest": times[0], "slowest": times[-1]}
        result |= {label + what: value for what, value in found.items()}
    return result
