"""Compiles the steps, compares each with ``pyrcnn.ops.nms``, and prints a table of their times.

    python examples/fast_nms/run.py [--count 5000] [--threads 2] [--write PAGE]

``--write`` puts the table between the marks ``<!-- fast_nms -->`` of a page. The compiler is $CXX, or c++.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import pyrcnn
from pyrcnn import ops

HERE = Path(__file__).parent
THRESHOLD = 0.5
IDEAS = {
    "step1_plain": "the plain loop",
    "step2_areas": "boxes in score order, areas once",
    "step3_screen": "kept boxes only, a product before the division",
    "step4_bundles": "bundles of 16 boxes, SIMD",
    "step5_sort": "integer keys, radix sort",
    "step6_index": "an index of the kept boxes",
    "step7_pairs": "all pairs first, then the order",
}
Nms = Callable[[Tensor, Tensor], Tensor]


def compiled(step: str, folder: Path, *options: str) -> Callable[[Tensor, Tensor, float, int], Tensor]:
    """Compile a step and return it as a function of boxes [K, 4], scores [K], the threshold and threads."""
    library = folder / f"{step}.so"
    command = [*shlex.split(os.environ.get("CXX", "c++")), "-std=c++20", "-O3", "-march=native", "-ffp-contract=off",
               "-shared", "-fPIC", "-pthread", *options, str(HERE / f"{step}.cpp"), "-o", str(library)]  # fmt: skip
    subprocess.run(command, check=True)
    function = ctypes.CDLL(str(library)).nms
    function.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_float,
        ctypes.c_int,
        ctypes.c_void_p,
    ]
    function.restype = ctypes.c_int64

    def nms(boxes: Tensor, scores: Tensor, threshold: float, threads: int = 1) -> Tensor:
        kept = torch.empty(len(boxes), dtype=torch.int64)
        count = function(boxes.data_ptr(), scores.data_ptr(), len(boxes), threshold, threads, kept.data_ptr())
        return kept[:count]

    return nms


def loose(count: int) -> tuple[Tensor, Tensor]:
    """Boxes with sides up to 200 pixels, anywhere in 1000 x 1000 pixels: few suppress each other."""
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=g) * 1000
    return torch.cat([corner, corner + torch.rand(count, 2, generator=g) * 200], 1), torch.rand(count, generator=g)


def crowded(count: int) -> tuple[Tensor, Tensor]:
    """A hundred boxes around every object, as a detector proposes them: most are suppressed."""
    g = torch.Generator().manual_seed(0)
    objects = max(1, count // 100)
    which = torch.randint(objects, (count,), generator=g)
    centre = (torch.rand(objects, 2, generator=g) * 1000)[which]
    side = torch.exp(torch.rand(objects, 2, generator=g) * 2 + 3)[which]
    noise = torch.randn(count, 4, generator=g) * 0.08
    centre, side = centre + noise[:, :2] * side, side * torch.exp(noise[:, 2:])
    return torch.cat([centre - side / 2, centre + side / 2], 1), torch.rand(count, generator=g)


def measured(methods: dict[str, Nms], boxes: Tensor, scores: Tensor, rounds: int = 40) -> dict[str, float]:
    """Return the least seconds of each method; the methods take turns, so that all meet the same load."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.perf_counter()
            method(boxes, scores)
            times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


def processor() -> str:
    """Return the processor's name and the instruction set that pyrcnn uses."""
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M) or ["unknown processor"]
    return f"{names[0]}, {pyrcnn.build_info()['cpu_capability']}"


def table(count: int, threads: int, folder: Path) -> str:
    """Compile, compare and measure all steps; return the Markdown table."""
    torch.set_num_threads(1)
    steps = {step: compiled(step, folder) for step in IDEAS}
    methods: dict[str, Nms] = {s: lambda b, c, f=f: f(b, c, THRESHOLD) for s, f in steps.items()}  # type: ignore[misc]
    labels = {step: f"{number} | {idea}" for number, (step, idea) in enumerate(IDEAS.items(), 1)}
    if threads > 1:
        methods["threads"] = lambda b, c: steps["step7_pairs"](b, c, THRESHOLD, threads)
        labels["threads"] = f"7 | the same with {threads} threads"
    methods["pyrcnn"] = lambda b, c: ops.nms(b, c, THRESHOLD)
    labels["pyrcnn"] = " | `pyrcnn.ops.nms`"
    columns = []
    for boxes, scores in (loose(count), crowded(count)):
        kept = ops.nms(boxes, scores, THRESHOLD)
        for name, method in methods.items():
            assert method(boxes, scores).tolist() == kept.tolist(), name
        columns.append((len(kept), measured(methods, boxes, scores)))
    (most, a), (few, b) = columns
    lines = [
        f"{processor()}, {datetime.date.today()}; {count:,} boxes, threshold {THRESHOLD}, one thread unless stated, "
        "the least of 40 calls.",
        "",
        f"| step | idea | loose boxes, {most:,} kept | speed-up | crowded boxes, {few:,} kept | speed-up |",
        "|---|---|---|---|---|---|",
    ]
    for name, label in labels.items():
        cells = [f"{t[name] * 1e6:,.0f} µs | {t['step1_plain'] / t[name]:,.1f}×" for t in (a, b)]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="boxes")
    parser.add_argument("--threads", type=int, default=1, help="also measure step 7 with so many threads")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into a page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = table(options.count, options.threads, Path(folder))
    print(text)
    if options.write:
        marks = re.compile(r"(?<=<!-- fast_nms -->\n).*?(?=<!-- /fast_nms -->)", re.S)
        options.write.write_text(marks.sub(lambda _: text + "\n", options.write.read_text()))


if __name__ == "__main__":
    main()
