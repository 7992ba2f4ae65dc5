"""Operators of two installed versions: ``python -m benchmarks.compare_versions OLD NEW [--repeats 5] [-k nms] …``.

OLD and NEW are the ``pytest`` commands of two environments with different versions of pyrcnn. ``bench_ops.py`` of this
checkout runs in both by turns, without peers, ``--repeats`` times. The table shows the median over all runs of each
version, the ratio new / old, and its range over the repeats. Other arguments go to pytest. The native libraries of the
environments are used, not this checkout's: pytest runs with ``--import-mode=append``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring.timing import format_seconds

ROOT = Path(__file__).parent.parent


def measure(pytest: Path, out: Path, arguments: list[str]) -> tuple[str, dict[str, float]]:
    """The machine's description and seconds per row of one run."""
    command = [str(pytest), "benchmarks/bench_ops.py", "--rows", str(out), "--peers", "^$", "-q", *arguments]
    done = subprocess.run([*command, "-p", "no:cacheprovider"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-4000:] + done.stderr[-2000:])
    report = json.loads(out.read_text())
    machine = ", ".join(f"{k} {v}" for k, v in report["machine"].items())
    return machine, {row["row"]: row["timings"]["pyrcnn"][0] for row in report["rows"]}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments, more = parser.parse_known_args()
    runs: dict[Path, list[dict[str, float]]] = {arguments.old: [], arguments.new: []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(arguments.repeats):
            # the order changes, so that neither version always runs on a warmer processor
            for version in list(runs)[:: -1 if repeat % 2 else 1]:
                machine, found = measure(version, Path(folder) / "rows.json", more)
                runs[version].append(found)
                print(f"repeat {repeat + 1}: {version}", file=sys.stderr, flush=True)
    old, new = runs.values()
    print(f"Measured on: {machine}; {arguments.repeats} interleaved runs of each version.\n")
    print("| row | old | new | new / old | range |\n|---|---|---|---|---|")
    ratios = []
    for row in (name for name in old[0] if all(name in run for run in (*old, *new))):
        a, b = (statistics.median(run[row] for run in version) for version in (old, new))
        each = sorted(y[row] / x[row] for x, y in zip(old, new, strict=True))
        ratios.append(b / a)
        print(f"| {row} | {format_seconds(a)} | {format_seconds(b)} | {b / a:.2f} | {each[0]:.2f}–{each[-1]:.2f} |")
    print(f"| geometric mean |  |  | {statistics.geometric_mean(ratios):.2f} |  |")


if __name__ == "__main__":
    main()
