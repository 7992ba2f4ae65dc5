"""The limits of this machine, measured in a second, and its description for the tables."""

from __future__ import annotations

import functools
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import pyrcnn

BFLOAT16 = ("avx512_bf16", "amx_bf16", "amx_tile")  # instruction sets that multiply bfloat16


@dataclass(frozen=True)
class Limits:
    """Bytes per second of a large copy (read + written), and float32 operations per second of a matrix product."""

    bandwidth: float
    flops: float

    def lower_bound(self, bytes_moved: float, operations: float = 0.0) -> float:
        """The seconds that no implementation can stay below: the larger of the two times."""
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
def limits(device: str, threads: int) -> Limits:
    """Bandwidth and arithmetic of ``device``, measured once for each number of threads."""
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
    return Limits(bandwidth, flops)


def describe() -> dict[str, str]:
    """What stands above every table: processor, versions, instruction set, and the GPU if there is one."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = f"{names[0]} ({len(names)} cores)" if names else model
    facts = {"cpu": model, "torch": torch.__version__, "pyrcnn": pyrcnn.__version__}
    info = pyrcnn.build_info()
    facts["capability"] = str(info["cpu_capability"])
    extra = [name for name, there in torch.cpu.get_capabilities().items() if there and name in BFLOAT16]
    facts["bfloat16"] = ", ".join(extra) or "emulated"
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["cuda"] = str(torch.version.cuda)
    return facts
