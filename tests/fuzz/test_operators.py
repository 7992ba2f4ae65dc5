"""A slice of the operators' fuzzer; ``python -m tests.fuzz`` makes as many calls as it is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.fuzz import operators

CALLS, PARTS = 2000, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_random_calls_are_answered_or_refused(part: int) -> None:
    """In a process of its own, whose memory is limited."""
    count = CALLS // PARTS
    command = [sys.executable, "-m", "tests.fuzz", "--calls", str(count), "--seed", str(part * count)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_every_operator_is_fuzzed() -> None:
    registered = {name.split("::")[1].split(".")[0] for name in torch._C._dispatch_get_all_op_names()
                  if name.startswith("pyrcnn::")}  # fmt: skip
    assert registered <= {name.removeprefix("pyrcnn::") for name in operators.corpus() if name.startswith("pyrcnn::")}


def test_a_seed_gives_the_same_call_again() -> None:
    for seed in range(50):
        first, again = (operators.make(seed, None) for _ in range(2))
        assert first[0] == again[0]
        assert str(first[2]) == str(again[2])
