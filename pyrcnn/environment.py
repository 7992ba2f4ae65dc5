"""What a measurement or a training run depends on: versions and the machine."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from . import __version__


def describe(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the versions of pyrcnn, torch and Python, the processor, its threads, and the GPU if ``device`` is one.

    Example:
        >>> sorted(describe())
        ['processor', 'pyrcnn', 'python', 'system', 'threads', 'torch']
    """
    device = torch.device(device)
    found = {
        "pyrcnn": __version__, "torch": torch.__version__, "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}", "processor": _processor(),
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
