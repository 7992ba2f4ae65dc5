"""Signals at every moment of a run: nothing is lost, nothing is left behind."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
import torch

from .interrupted import SENDERS, lives, prepare, run, start


def interrupt(folder: Path, sender: str, workers: int, accumulate: int, training: bool) -> None:
    """Interrupt a run at its second step, or at its first validation, and resume it."""
    config = {"workers": workers, "accumulate": accumulate, "checkpoint_minutes": 0 if sender == "kill" else 60}
    process = start(folder, out="run", config=config, training=training, call=2 if training else 1, pause=0.5)
    assert process.stdout is not None
    children = json.loads(process.stdout.readline())
    assert len(children) == workers
    SENDERS[sender](process)
    if sender == "kill":
        process.wait()
    else:
        printed, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        assert "stopped after step" in printed
        assert "continues it" in printed
        assert "Traceback" not in errors
    sent = time.monotonic()
    while any(map(lives, children)):
        assert time.monotonic() - sent < 1.5, "workers outlive the process that they work for"
        time.sleep(0.01)
    if sender == "kill" and training and accumulate == 2:
        return  # within the first step: there is no checkpoint yet
    run(folder, {"out": "run", "config": {**config, "resume": True}})
    if not (folder / "whole.pt").exists():
        run(folder, {"out": "whole", "config": {**config, "workers": 0}})
    whole, resumed = torch.load(folder / "whole.pt"), torch.load(folder / "run.pt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    logs = [(folder / name / "metrics.jsonl").read_text() for name in ("whole", "run")]
    assert logs[0] == logs[1]


def test_ctrl_c_with_workers_and_accumulation(tmp_path: Path) -> None:
    prepare(tmp_path)
    interrupt(tmp_path, "ctrl-c", workers=2, accumulate=2, training=True)


@pytest.mark.slow
@pytest.mark.parametrize("sender", list(SENDERS))
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("training", [True, False], ids=["step", "validation"])
def test_signals(tmp_path: Path, sender: str, workers: int, accumulate: int, training: bool) -> None:
    prepare(tmp_path)
    interrupt(tmp_path, sender, workers, accumulate, training)


@pytest.mark.slow
def test_kills_at_random_moments_lose_at_most_the_interval_between_checkpoints(tmp_path: Path) -> None:
    """Thirty kills -9: the steps after a kill are those of an uninterrupted run, bit for bit."""
    prepare(tmp_path)
    config = {"epochs": 2000, "checkpoint_minutes": 0.005, "log_every": 1, "evaluate_every": 0, "workers": 1}
    moments = random.Random(0)
    steps = 0
    for turn in range(30):
        process = start(tmp_path, out="run", training=True, call=1, pause=0,
                        config={**config, "resume": "auto", "overwrite": not steps})  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline(), process.communicate()[1]
        time.sleep(moments.uniform(0.0, 2.0))
        process.kill()
        process.wait()
        log, checkpoint = tmp_path / "run/metrics.jsonl", tmp_path / "run/checkpoint.pt"
        if checkpoint.exists():
            saved = torch.load(checkpoint, weights_only=True)["step"]
            assert saved >= steps, f"kill {turn} lost what an earlier checkpoint had"
            steps = saved
            whole = [line for line in log.read_text().splitlines() if line.endswith("}")]
            age = log.stat().st_mtime - checkpoint.stat().st_mtime
            assert age < 0.3 + 1.0, f"kill {turn}: {len(whole) - saved} steps in {age:.1f} s are lost"
    assert steps > 100
    run(tmp_path, {"out": "run", "config": {**config, "resume": True}})
    run(tmp_path, {"out": "whole", "config": config})
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "run")]
    assert logs[0] == logs[1]
    whole, resumed = torch.load(tmp_path / "whole.pt"), torch.load(tmp_path / "run.pt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
