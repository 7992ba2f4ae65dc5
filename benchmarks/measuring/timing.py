"""Times several functions that do the same work, in turns, so that changes of the machine affect all of them alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Contender = Callable[[], Any]
SAMPLE = 2e-3  # minimum seconds of a sample: long compared with the clock's resolution
SAMPLE_THREADS = 20e-3  # ... with several threads: long compared with waking a thread that sleeps
SLOW = 0.2  # a call of so many seconds needs no warm-up


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median, and the 10th and 90th percentile."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(seconds: list[float]) -> Timing:
        ordered = sorted(seconds)
        last = len(ordered) - 1
        return Timing(statistics.median(ordered), ordered[round(0.1 * last)], ordered[round(0.9 * last)])


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def calls_per_round(contender: Contender, device: torch.device, once: float = 0.0) -> int:
    """How many calls make one sample.

    ``once``: seconds that an earlier call took; after a long one the contender is not called again to warm up.
    """
    if once > SLOW:
        return 1
    for _ in range(2):  # the first call warms up the allocator, the caches and the thread pool
        start = time.perf_counter()
        contender()
        synchronize(device)
        once = time.perf_counter() - start
        if once > SLOW:
            break
    least = SAMPLE if torch.get_num_threads() == 1 else SAMPLE_THREADS
    return max(1, min(10_000, int(least / max(once, 1e-9))))


def time_in_turns(
    contenders: Mapping[str, Contender],
    device: torch.device,
    seconds: float = 2.0,
    rounds: int = 5,
    before: Mapping[str, float] | None = None,
) -> dict[str, Timing]:
    """Time every contender in turn, in a new random order each round, for about ``seconds`` in all.

    ``before``: seconds of an earlier call of each, if there was one.
    """
    calls = {name: calls_per_round(c, device, (before or {}).get(name, 0.0)) for name, c in contenders.items()}
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    shuffle = random.Random(0)
    end = time.perf_counter() + seconds
    while len(samples[order[0]]) < rounds or (time.perf_counter() < end and len(samples[order[0]]) < 200):
        shuffle.shuffle(order)
        for name in order:
            contender, count = contenders[name], calls[name]
            if torch.get_num_threads() > 1:
                time.sleep(0.01)  # threads of the previous contender still spin
            synchronize(device)
            start = time.perf_counter()
            for _ in range(count):
                contender()
            synchronize(device)
            samples[name].append((time.perf_counter() - start) / count)
    return {name: Timing.of(values) for name, values in samples.items()}


def format_seconds(seconds: float) -> str:
    """``seconds`` with three digits and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
