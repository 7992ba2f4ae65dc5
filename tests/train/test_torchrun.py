"""torchrun: processes that are lost, other numbers of processes, several machines, and what it cannot run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pyrcnn import cli

from .processes import finish, free_port, python, run, start, torchrun, unlike


def case(folder: Path, **more: Any) -> dict[str, Any]:
    folder.mkdir()
    return {"model": "faster_rcnn", "out": str(folder), "files": True, **more,
            "config": {"log_every": 1, **more.get("config", {})}}  # fmt: skip


def steps(case: dict[str, Any]) -> list[int]:
    lines = (Path(case["out"]) / "run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def weights(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    return torch.load(Path(case["out"]) / "0.pt")["weights"]


@pytest.mark.slow
def test_four_processes_and_batches_smaller_than_their_number(tmp_path: Path) -> None:
    config = {"batch_size": 3, "accumulate": 2, "ema": 0.9}
    four, one = case(tmp_path / "four", config=config), case(tmp_path / "one", config=config)
    finish(start([four], 4))
    run(one)
    assert steps(four) == steps(one)
    assert unlike(weights(four), weights(one)) <= 1e-4


@pytest.mark.slow
def test_a_lost_process_restarts_the_group(tmp_path: Path) -> None:
    """kill -9 of the second process in its 8th step: the run ends as one that nothing has disturbed."""
    lost, whole = case(tmp_path / "lost", kill=[1, 7]), case(tmp_path / "whole")
    finish([torchrun(lost, "--standalone", "--nproc-per-node", "2", "--max-restarts", "2")])
    run(whole)
    assert (Path(lost["out"]) / "killed").exists()
    assert steps(lost) == list(range(1, 21))
    assert unlike(weights(lost), weights(whole)) <= 1e-4


@pytest.mark.slow
def test_a_lost_machine_leaves_fewer_processes(tmp_path: Path) -> None:
    """Two agents, as on two machines; one is killed with its process, and the other goes on alone."""
    both, whole = case(tmp_path / "both", config={"epochs": 40}), case(tmp_path / "whole", config={"epochs": 40})
    options = (
        "--rdzv-backend", "c10d", "--rdzv-id", tmp_path.name, "--rdzv-endpoint", f"127.0.0.1:{free_port()}",
        "--rdzv-conf", "last_call_timeout=2", "--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "3",
    )  # fmt: skip
    first = torchrun(both, *options)
    time.sleep(1)  # the first one hosts the meeting point
    second = torchrun(both, *options)
    log = Path(both["out"]) / "run/metrics.jsonl"
    deadline = time.monotonic() + 90
    while not log.exists() or len(log.read_text().splitlines()) < 10:
        assert time.monotonic() < deadline, (first.poll(), second.poll())
        time.sleep(0.1)
    children = Path(f"/proc/{second.pid}/task/{second.pid}/children").read_text().split()
    assert children
    for pid in (second.pid, *map(int, children)):
        os.kill(pid, 9)
    finish([first], 180)
    second.communicate()
    run(whole)
    assert steps(both) == list(range(1, 81))
    assert unlike(weights(both), weights(whole)) <= 1e-4


@pytest.mark.slow
def test_two_machines_train_together(tmp_path: Path) -> None:
    """Two agents on the loopback with different ranks of the machine."""
    two, one = case(tmp_path / "two"), case(tmp_path / "one")
    place = ("--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    finish([torchrun(two, *place, "--node-rank", str(rank)) for rank in (0, 1)])
    run(one)
    assert steps(two) == list(range(1, 21))
    assert unlike(weights(two), weights(one)) <= 1e-4


@pytest.mark.slow
def test_another_number_of_processes_continues_a_run(tmp_path: Path) -> None:
    three, one = case(tmp_path / "three"), case(tmp_path / "one")
    three["config"]["epochs"] = one["config"]["epochs"] = 10
    stopped = start([{**three, "kill": [0, 9]}], 3)
    for process in stopped:
        process.wait(90)
    assert stopped[0].returncode == -9
    assert steps(three)[-1] in (8, 9)
    three["config"]["resume"] = True
    finish(start([three], 2))
    run(one)
    assert steps(three) == list(range(1, 21))
    assert unlike(weights(three), weights(one)) <= 1e-4


@pytest.mark.slow
def test_ctrl_c_reaches_torchrun_and_its_processes(tmp_path: Path) -> None:
    """A terminal sends SIGINT to all; torchrun sends it to its processes a second time."""
    stopped = case(tmp_path / "stopped", config={"epochs": 400, "checkpoint_minutes": 60})
    process = torchrun(stopped, "--standalone", "--nproc-per-node", "2")
    log = Path(stopped["out"]) / "run/metrics.jsonl"
    while not log.exists() or len(log.read_text().splitlines()) < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.killpg(process.pid, 2)
    process.communicate(timeout=60)
    assert process.returncode != 0
    saved = torch.load(Path(stopped["out"]) / "run/checkpoint.pt", weights_only=True)["step"]
    assert saved >= 5
    assert steps(stopped) == list(range(1, saved + 1))


def test_other_commands_than_train_are_refused(monkeypatch, capsys) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["pyrcnn", "detect"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert capsys.readouterr().err == (
        "pyrcnn: torchrun must start pyrcnn train, got detect: start it without torchrun\n"
    )


REFUSED = """
import sys, torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from pyrcnn import InputError, train
from pyrcnn.train import TrainConfig
from tests.train.processes import Rectangles, make_model
class Endless(torch.utils.data.IterableDataset):
    def __iter__(self): yield from ()
dist.init_process_group("gloo")
model = make_model("tiny")
for wrong, data, config in (
    (DistributedDataParallel(model), Rectangles(4), TrainConfig(out=None)),
    (model, Endless(), TrainConfig(out=None)),
    (model, Rectangles(4), TrainConfig(out=None, device="tpu")),
    (model, Rectangles(4), TrainConfig(out="/dev/null/run")),
    (model, Rectangles(4), TrainConfig(out=None, precision="float16")),
    (model, Rectangles(4), TrainConfig(out=None, resume=True)),
):
    try: train.fit(wrong, data, config=config, quiet=True)
    except InputError as error: print(error)
"""


@pytest.mark.slow
def test_what_cannot_be_distributed_is_refused_by_name() -> None:
    code, folder = python(REFUSED)
    port = str(free_port())
    processes = [
        subprocess.Popen(code, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={
            **os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
        })
        for rank in (0, 1)
    ]  # fmt: skip
    for process in processes:
        printed, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        lines = printed.splitlines()
        assert lines[0].startswith("model must be the detector itself where several processes train, got it in Dist")
        assert lines[1].startswith("train_data must be a data set, as from data.coco, got Endless")
        assert lines[2].startswith("device must be cpu or cuda, got 'tpu'")
        assert lines[3].startswith("out must be a folder that can be created, got /dev/null/run")
        assert lines[4].startswith("precision must be 'float32', 'bfloat16' or 'auto' on cpu, got 'float16'")
        assert lines[5].startswith("resume must be False without out")
