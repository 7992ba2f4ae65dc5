"""Small models and data to train in several processes, and the program that each process runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyrcnn import Targets, models, train
from pyrcnn.train import TrainConfig
from tests.conftest import python
from tests.detector import TinyDetector, dataset

SMALL_FASTER_RCNN = {
    "num_classes": 2, "fpn_channels": 8, "min_size": 64, "max_size": 96, "top": False,
    "rpn": {"sizes": ((8,), (16,), (32,), (48,), (64,)), "before_nms": (60, 40), "after_nms": (40, 20), "samples": 32},
    "roi": {"width": 16, "samples": 16, "max_detections": 10},
}  # fmt: skip
# AdamW would turn the rounding of gradients that are almost zero into steps of the size of the learning rate.
CONFIG = TrainConfig(
    epochs=10, batch_size=5, optimizer="sgd", learning_rate=0.01, freeze_norm=True, log_every=4, checkpoint_minutes=0,
    augment=(), group_by_aspect=False, seed=3,
)  # fmt: skip


class Rectangles:
    """Bright rectangles on dark images of several sizes; every third image has none."""

    classes, category_ids = ("a", "b"), (1, 2)

    def __init__(self, count: int, joints: int = 0):
        self.count, self.joints = count, joints

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
        g = torch.Generator().manual_seed(index)
        height, width = (60, 80) if index % 2 else (70, 56)
        image = torch.randint(0, 60, (3, height, width), generator=g, dtype=torch.uint8)
        boxes = []
        for _ in range(0 if index % 3 == 2 else 1 + index % 4):
            x, y, w, h = (int(torch.randint(6, 30, (), generator=g)) for _ in range(4))
            image[index % 3, y : y + h, x : x + w] = 250
            boxes.append([x, y, x + w, y + h])
        found = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        keypoints = None
        if self.joints:
            keypoints = torch.rand(len(found), self.joints, 3, generator=g) * torch.tensor([50.0, 50.0, 2.9])
            keypoints[..., 2].floor_()
        return image, Targets(found, torch.arange(len(found)) % 2, keypoints)


def make_model(name: str) -> nn.Module:
    """Return the same model in each process, without batch norms that learn; ``tiny`` has one that does."""
    torch.manual_seed(7)
    if name == "tiny":
        return TinyDetector()
    if name == "faster_rcnn":
        return models.build("faster_rcnn_mobilenet_v2_fpn", **SMALL_FASTER_RCNN)
    model = models.build("centernet_mobilenet_v2_fpn_512", num_classes=2, input_size=64, joints=3, head_width=16)
    for path, module in [*model.get_submodule("neck").named_modules()]:
        if isinstance(module, nn.BatchNorm2d):
            model.set_submodule(f"neck.{path}", nn.Identity())
    return model


def run(case: dict[str, Any]) -> None:
    """Train as ``case`` says and write the weights, the result and what was printed about it beside the run."""
    torch.set_num_threads(1)
    out = Path(case["out"])
    config = replace(CONFIG, **{**case["config"], "out": str(out / "run") if case.get("files") else None})
    model = make_model(case["model"])
    before = []

    def count(module: nn.Module, inputs: Any) -> None:
        here = case.get("kill") == [int(os.environ.get("RANK", 0)), len(before)]
        if module.training and here and not (out / "killed").exists():
            (out / "killed").touch()
            os.kill(os.getpid(), 9)
        before.append(0)

    model.get_submodule("backbone").register_forward_pre_hook(count)
    if case["model"] == "tiny":
        folder = out / f"data{os.environ.get('RANK', '')}"
        folder.mkdir()
        train_data = val_data = dataset(folder)
    else:
        train_data, val_data = Rectangles(case.get("images", 12), joints=3 * (case["model"] == "centernet")), None
    result = train.fit(model, train_data, val_data, config, quiet=not case.get("talks"))
    rank = os.environ.get("RANK", "0")
    torch.save({"weights": model.state_dict(), "steps": result.steps, "scores": result.scores}, out / f"{rank}.pt")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


PROGRAM = "import json, sys\nfrom tests.train.processes import run\nfor case in json.loads(sys.argv[1]): run(case)\n"


def start(cases: list[dict[str, Any]], size: int) -> list[subprocess.Popen]:
    """Start ``size`` processes that train together, as a launcher does."""
    command, folder = python(PROGRAM, json.dumps(cases))
    port = str(free_port())
    return [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={
            **os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        })
        for rank in range(size)
    ]  # fmt: skip


def torchrun(case: dict[str, Any], *options: str) -> subprocess.Popen:
    """Start torchrun, which starts the processes."""
    command, folder = python(PROGRAM, json.dumps([case]))
    program = Path(case["out"]) / "program.py"
    program.write_text(command[2])
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, str(program), json.dumps([case])], cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )  # fmt: skip


def finish(processes: list[subprocess.Popen], seconds: float = 120) -> list[str]:
    """Wait for the processes, which must end well; return what each printed on standard error."""
    try:
        printed = [process.communicate(timeout=seconds)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()  # torchrun's processes end with it
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(printed)
    return printed


def unlike(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Return the largest difference between the weights of two models."""
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)
