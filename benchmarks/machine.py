"""What this machine can do at most, measured in a second: the ceilings that floors are computed from."""

from __future__ import annotations

import functools
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import pyrcnn


@dataclass(frozen=True)
class Ceilings:
    """Bytes per second of a large copy (read + written), and float32 operations per second of a matrix product."""

    bandwidth: float
    flops: float

    def floor(self, bytes_moved: float, operations: float = 0.0) -> float:
        """Seconds below which no version runs: the larger of the two times."""
        return max(bytes_moved / self.bandwidth, operations / self.flops)


def _best(function, repeats: int = 5) -> float:
    function()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


@functools.cache
def ceilings(device: str, threads: int) -> Ceilings:
    """Measured once per device and thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        source = torch.ones(1 << 26, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        bandwidth = 2 * source.numel() / _best(lambda: target.copy_(source))
        matrix = torch.ones(1024, 1024, device=device)
        flops = 2 * 1024**3 / _best(lambda: matrix @ matrix)
    finally:
        torch.set_num_threads(before)
    return Ceilings(bandwidth, flops)


def describe() -> dict[str, str]:
    """The lines that stand above every table."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = f"{names[0]} ({len(names)} cores)" if names else model
    facts = {"cpu": model, "torch": torch.__version__, "pyrcnn": pyrcnn.__version__}
    info = pyrcnn.build_info()
    facts["capability"] = info["cpu_capability"] + (info["cpu_tiles"] and f" with {info['cpu_tiles']}")
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["cuda"] = str(torch.version.cuda)
    return facts
