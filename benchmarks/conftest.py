"""The ``compare`` fixture: check that contenders agree, time them in turns, and store the figures for tables."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.measuring.machine import describe, limits
from benchmarks.measuring.other_process import IPEX, OtherProcess
from benchmarks.measuring.timing import Contender, Timing, format_seconds, time_in_turns
from benchmarks.peers import COMPILED

ROWS: list[dict[str, Any]] = []
ONE_THREAD = "pyrcnn, one thread"  # a contender wherever operators run on several threads


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pyrcnn")
    group.addoption("--threads", type=int, default=1, help="CPU threads for every contender (default 1)")
    group.addoption("--bench-device", default="cpu", help="cpu (default) or cuda")
    group.addoption("--seconds", type=float, default=2.0, help="about how long each row is measured (default 2)")
    group.addoption("--rounds", type=int, default=5, help="but at least this many calls of each contender (default 5)")
    group.addoption("--peers", default="", help="only the peers whose names match this regular expression")
    group.addoption("--ipex-python", type=Path, default=None, help="a Python that has IPEX, which needs torch 2.8")
    group.addoption(
        "--rows", type=Path, default=None, help="write the figures to this JSON file, for benchmarks.report"
    )


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(request.config.getoption("--threads"))
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--bench-device"))


@pytest.fixture
def ipex(request: pytest.FixtureRequest) -> Any:
    """``ipex(x, rois, size, scale, sampling)``: IPEX's RoIAlign as a contender; None without ``--ipex-python``."""
    python, running = request.config.getoption("--ipex-python"), []

    def roi_align(x: torch.Tensor, rois: torch.Tensor, size: int, scale: float, sampling: int) -> Contender | None:
        if python is None or x.device.type != "cpu":
            return None
        inputs = {"x": x, "rois": rois, "size": size, "scale": scale, "sampling": sampling}
        running.append(OtherProcess(python, "intel_extension_for_pytorch", IPEX, inputs))
        return running[0]

    yield roi_align
    for process in running:
        process.close()


def on_one_thread(contender: Contender, threads: int) -> Contender:
    """``contender`` on one thread. It starts no threads of its own, so the pool of the other contenders stays ready."""

    def run() -> Any:
        torch.set_num_threads(1)
        try:
            return contender()
        finally:
            torch.set_num_threads(threads)

    return run


@pytest.fixture
def compare(request: pytest.FixtureRequest, benchmark: Any, device: torch.device) -> Callable[..., None]:
    """``compare(ours, peers, agree=…, bytes=…, operations=…)``: measure a row; further arguments are stored with it.

    ``agree(ours_result, peer_result, peer_name)`` asserts that results agree, before anything is timed. ``bytes`` and
    ``operations`` are what the operator cannot do without; they give the row's lower bound.
    """
    config = request.config

    def run(
        ours: Contender,
        peers: Mapping[str, Contender | None],
        agree: Callable[[Any, Any, str], None] | None = None,
        bytes: float = 0.0,
        operations: float = 0.0,
        **facts: Any,
    ) -> None:
        wanted = config.getoption("--peers")
        left_out = {COMPILED} if benchmark.disabled else set()
        present = {
            name: peer
            for name, peer in peers.items()
            if peer is not None and name not in left_out and re.search(wanted, name)
        }
        threads = config.getoption("--threads")
        if threads > 1 and device.type == "cpu" and (bytes or operations) and re.search(wanted, ONE_THREAD):
            present[ONE_THREAD] = on_one_thread(ours, threads)
        began = time.perf_counter()
        single = benchmark.disabled or config.getoption("--rounds") == 1
        result = benchmark.pedantic(ours, rounds=1) if single else ours()
        took = {"pyrcnn": time.perf_counter() - began}
        for name, peer in present.items():
            began = time.perf_counter()
            other = peer()
            took[name] = time.perf_counter() - began
            if agree is not None and name != ONE_THREAD:
                agree(result, other, name)
        if benchmark.disabled:
            return
        timings = time_in_turns(
            {"pyrcnn": ours, **present}, device, config.getoption("--seconds"), config.getoption("--rounds"), took
        )
        if not single:  # pytest-benchmark keeps the samples of our own calls beside its other results
            benchmark.pedantic(ours, rounds=5 if timings["pyrcnn"].median < 0.5 else 1)
        bound = limits(device.type, threads).lower_bound(bytes, operations) if bytes or operations else None
        row = {
            "row": request.node.name.removeprefix("bench_"),
            "threads": threads,
            "device": device.type,
            "bound": bound,
            "timings": {name: [t.median, t.low, t.high] for name, t in timings.items()},
            **facts,
        }
        benchmark.extra_info.update(row)
        ROWS.append(row)
        write_rows(config)  # after every row, so that an interrupted run keeps its figures

    return run


def write_rows(config: pytest.Config) -> None:
    """The figures so far to ``--rows``."""
    path = config.getoption("--rows")
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps({"machine": describe(), "rows": ROWS}, indent=1))
        os.replace(temporary, path)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not ROWS:
        return
    terminalreporter.section("ours beside the peers (median; ratio = peer / ours, in brackets 10th to 90th percentile)")
    for row in ROWS:
        timings = {name: Timing(*values) for name, values in row["timings"].items()}
        ours = timings.pop("pyrcnn")
        bound = f"  bound {format_seconds(row['bound'])}, {ours.median / row['bound']:.1f}x" if row["bound"] else ""
        peers = "".join(
            f"  | {name} {format_seconds(t.median)}: {t.median / ours.median:.1f}x "
            f"({t.low / ours.high:.1f}-{t.high / ours.low:.1f})"
            for name, t in sorted(timings.items(), key=lambda item: item[1].median)
        )
        terminalreporter.write_line(f"{row['row']:58s} {format_seconds(ours.median):>9s}{bound}{peers}")
