"""What the examples of this folder share: options, and the time of a call."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any


def arguments(description: str | None) -> argparse.Namespace:
    """Return the options of the command line: ``small``, and ``threads``, which torch then uses."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--small", action="store_true", help="sizes that take a second, to see that it works")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    return options


def timed(call: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """Return what ``call`` returns and the least milliseconds of ``repeats`` calls, after one that is not counted."""
    result, least = call(), float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        least = min(least, (time.perf_counter() - start) * 1e3)
    return result, least


def report(what: str, before: float | None, after: float) -> None:
    """Print the times; ``before`` is None where the code did not work without the swap."""
    if before is None:
        print(f"{what}: before: does not work; after: {after:.1f} ms")
    else:
        print(f"{what}: before: {before:.1f} ms; after: {after:.1f} ms ({before / after:.1f}x)")
