"""Fuzz the operators: ``python -m tests.fuzz --calls N --seed S [--operator NAME]``.

The call of a seed depends on the seed alone. A child process makes the calls and notes each seed before its call. If
the child crashes or hangs, the seed is reported and another child goes on behind it. The exit code is 1 after any
failure. ``--calls 1 --seed X`` makes the call of a reported seed again.

``--record FILE`` writes what each call returned; ``--compare ONE TWO`` compares two such files, for example of two
values of ``PYRCNN_CPU_CAPABILITY``. ``--leaks`` repeats valid calls of each operator and reports the memory they keep.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import json
import mmap
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

HANG = 60  # seconds
MEMORY = 600 << 20  # bytes of address space beyond what the libraries take; more is "out of memory"
LISTED = 30  # failures that are listed in full


def is_sanitized() -> bool:
    return "asan" in os.environ.get("LD_PRELOAD", "")


def limit_memory() -> None:
    """Let larger allocations fail at once. AddressSanitizer reserves terabytes; it has a limit of its own."""
    if not is_sanitized():
        used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


def child(options: argparse.Namespace, state: mmap.mmap) -> int:
    """Make the calls from ``options.seed`` on; return how many failed."""
    import torch

    from tests.fuzz import operators

    warnings.simplefilter("ignore")  # torch's, about complex numbers
    torch.set_num_threads(2)
    torch.zeros(1 << 20).add_(1)  # starts the threads, before their stacks count
    torch.set_num_threads(1)
    operators.corpus()
    limit_memory()
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    record = options.record.open("a") if options.record else None
    for at, seed in enumerate(range(options.seed, options.seed + options.calls)):
        if at % 100 == 0:
            faulthandler.dump_traceback_later(HANG, exit=True)
        struct.pack_into("q", state, 0, seed)
        began = time.process_time()
        result: Any = None
        try:
            name, result = operators.run(seed, options.operator)
            kind = "refused" if isinstance(result, Exception) else "answered"
        except AssertionError as failure:
            name, kind = operators.make(seed, options.operator)[0], "failed"
            counts["all", "failed"] += 1
            if counts["all", "failed"] <= LISTED:
                print(f"seed {seed}: {name}: {' '.join(str(failure).split())[:300]}", flush=True)
        if time.process_time() - began > operators.SLOW:
            print(f"seed {seed}: {name}: took {time.process_time() - began:.1f} s", flush=True)
            counts["all", "failed"] += 1
        counts[name, kind] += 1
        if record:
            record.write(json.dumps([seed, name, operators.summary(result)]) + "\n")
    faulthandler.cancel_dump_traceback_later()
    if options.table:
        for name in sorted({name for name, _ in counts} - {"all"}):
            numbers = ", ".join(f"{counts[name, kind]} {kind}" for kind in ("answered", "refused", "failed"))
            print(f"{name:40s} {numbers}")
    struct.pack_into("q", state, 8, struct.unpack_from("q", state, 8)[0] + counts["all", "failed"])
    return counts["all", "failed"]


def parent(options: argparse.Namespace) -> int:
    """Run children until all calls are made; return how many failed, crashed or hung."""
    failed, end = 0, options.seed + options.calls
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(16))
        file.flush()
        state = mmap.mmap(file.fileno(), 16)
        while options.seed < end:
            command = [sys.executable, "-m", "tests.fuzz", "--child", file.name, "--seed", str(options.seed),
                       "--calls", str(end - options.seed), "--table"]  # fmt: skip
            command += ["--operator", options.operator] if options.operator else []
            command += ["--record", str(options.record)] if options.record else []
            struct.pack_into("q", state, 0, -1)
            done = subprocess.run(command)
            if done.returncode in (0, 3):  # all calls were made; 3: some failed
                break
            at = struct.unpack_from("q", state, 0)[0]
            if at < 0:
                print("the process that makes the calls does not start", flush=True)
                return failed + 1
            print(f"seed {at}: CRASHED or hung, exit code {done.returncode}", flush=True)
            failed += 1
            options.seed = at + 1
        failed += struct.unpack_from("q", state, 8)[0]
    return failed


def compare(one: Path, two: Path) -> int:
    """Return how many calls two records describe differently."""
    from tests.fuzz.operators import agree

    different = 0
    with one.open() as first, two.open() as second:
        for a, b in zip(first, second, strict=True):
            (seed, name, before), (other, _, after) = json.loads(a), json.loads(b)
            if seed != other or not agree(before, after):
                different += 1
                if different <= LISTED:
                    print(f"seed {seed}: {name}: {str(before)[:200]} and {str(after)[:200]}")
    return different


def leaks(operator: str | None, calls: int) -> int:
    """Return for how many operators the resident memory grows by over 8 MB in ``calls`` valid calls."""
    from tests.fuzz import operators

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    growing = 0
    for name, valid in operators.corpus().items():
        if operator not in (None, name):
            continue
        for i in range(calls):
            if i == calls // 10:
                before = resident()
            call = valid[i % len(valid)]
            with contextlib.suppress(ValueError):  # hostile values may be refused
                call(call.arguments)
        grown = (resident() - before) / 2**20
        growing += grown > 8
        print(f"{name:40s} {resident() / 2**20:8.1f} MB, {grown:+.2f} MB in {calls} calls", flush=True)
    return growing


def main() -> int:
    """Run what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operator", help='such as "nms", or "pyrcnn::nms" for the native operator')
    parser.add_argument("--record", type=Path)
    parser.add_argument("--compare", type=Path, nargs=2)
    parser.add_argument("--leaks", action="store_true")
    parser.add_argument("--table", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        with Path(options.child).open("r+b") as file:
            return 3 if child(options, mmap.mmap(file.fileno(), 16)) else 0
    if options.compare:
        bad = compare(*options.compare)
    elif options.leaks:
        bad = leaks(options.operator, options.calls)
    else:
        began = time.perf_counter()
        bad = parent(options)
        print(f"{options.calls} calls in {time.perf_counter() - began:.0f} s", end="; ")
    print(f"{bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
