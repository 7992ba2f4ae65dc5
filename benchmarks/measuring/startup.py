"""How long processes take to start: ``python -m benchmarks.measuring.startup [--rounds 7]``.

Each command runs in turn with the others, after one run that writes the bytecode. The table has medians of processor
and of wall time.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "import torch": ["-c", "import torch"],
    "import torch, pyrcnn.ops": ["-c", "import torch, pyrcnn.ops"],
    "import pyrcnn": ["-c", "import pyrcnn"],
    "import pyrcnn.numpy": ["-c", "import pyrcnn.numpy"],
    "pyrcnn --help": ["-m", "pyrcnn", "--help"],
}


def once(arguments: list[str]) -> tuple[float, float]:
    """Return processor and wall time of one process, in milliseconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), 1e3 * wall


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for arguments in COMMANDS.values():
        once(arguments)
    times = [{name: once(arguments) for name, arguments in COMMANDS.items()} for _ in range(rounds)]
    print("| command | processor time, ms | wall time, ms |\n|---|---|---|")
    for name in COMMANDS:
        used, wall = (statistics.median(one[name][i] for one in times) for i in range(2))
        print(f"| `{name}` | {used:.0f} | {wall:.0f} |")


if __name__ == "__main__":
    main()
