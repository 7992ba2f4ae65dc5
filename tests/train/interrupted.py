"""The program that tests of signals interrupt: it tells where it is and waits there for a moment."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pyrcnn import data, train
from pyrcnn.train import TrainConfig
from tests.conftest import python
from tests.detector import TinyDetector, dataset

CONFIG = TrainConfig(
    epochs=4, batch_size=2, learning_rate=0.01, ema=0.9, log_every=2, checkpoint_minutes=60, evaluate_every=2,
    augment=(data.HorizontalFlip(), data.ColorJitter()),
)  # fmt: skip


def prepare(folder: Path) -> None:
    """Write the data set."""
    dataset(folder)


def run(folder: Path, case: dict[str, Any]) -> None:
    """Train; stop for ``case["pause"]`` seconds at the call ``case["call"]`` of the model, in training or not."""
    torch.manual_seed(7)
    model = TinyDetector()
    calls = {True: 0, False: 0}

    def pause(module: torch.nn.Module, inputs: Any) -> None:
        calls[module.training] += 1
        if calls[module.training] == case.get("call") and module.training == case["training"]:
            print(json.dumps([child.pid for child in multiprocessing.active_children()]), flush=True)
            time.sleep(case["pause"])

    model.register_forward_pre_hook(pause)
    d = data.coco(folder / "images", folder / "annotations.json")
    config = replace(CONFIG, out=str(folder / case["out"]), **case["config"])
    try:
        train.fit(model, d, d, config, quiet=True)
    except KeyboardInterrupt as error:
        print(error, flush=True)
        sys.exit(130)
    torch.save(model.state_dict(), folder / f"{case['out']}.pt")


PROGRAM = """
import json, sys
from pathlib import Path
from tests.train.interrupted import run
run(Path(sys.argv[1]), json.loads(sys.argv[2]))
"""


def start(folder: Path, **case: Any) -> subprocess.Popen:
    """Start the program in a process group of its own, as a terminal does."""
    command, where = python(PROGRAM, folder, json.dumps(case))
    return subprocess.Popen(
        command, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def lives(pid: int) -> bool:
    """Return whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


SENDERS = {
    "ctrl-c": lambda process: os.killpg(process.pid, signal.SIGINT),
    "term": lambda process: process.terminate(),
    "term to the group": lambda process: os.killpg(process.pid, signal.SIGTERM),
    "kill": lambda process: process.kill(),
}
