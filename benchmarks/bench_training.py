"""A training step of each family: preprocessing, forward, backward and update of a batch, beside torchvision's.

``pyrcnn`` is what :func:`pyrcnn.train.fit` does in a step, with its defaults. torchvision's model has the same weights,
images, ground truth and optimizer, as in its reference script. The losses of the first step must agree: up to the
random choice of training samples.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.detectors import contenders
from benchmarks.detectors.calibration import calibrate_, example_image
from pyrcnn import Targets, checkpoints, models
from pyrcnn.data.loader import SeededBatch
from pyrcnn.memory import keep_freed_memory
from pyrcnn.train import TrainConfig
from pyrcnn.train.distributed import World
from pyrcnn.train.losses import Losses
from pyrcnn.train.schedule import make_optimizer
from pyrcnn.train.speed import channels_last, precision_on

IMAGES, OBJECTS = 2, 8
CONFIG = TrainConfig(optimizer="sgd", learning_rate=1e-4, weight_decay=1e-4, clip_norm=0)
SIZES = {"faster_rcnn_resnet50_fpn": (800, 1088), "centernet_mobilenet_v2_fpn_512": (512, 512)}
SMALL = {
    "faster_rcnn_resnet50_fpn": {"min_size": 128, "max_size": 192},
    "centernet_mobilenet_v2_fpn_512": {"input_size": 128},
}


def make_batch(height: int, width: int) -> tuple[list[Tensor], list[Targets]]:
    """Return images and as many objects in each."""
    g = torch.Generator().manual_seed(0)
    images = [example_image(height, width).roll(64 * n, 2) for n in range(IMAGES)]
    targets = []
    for _ in images:
        corner = torch.rand(OBJECTS, 2, generator=g) * torch.tensor([0.6 * width, 0.6 * height])
        sides = 20 + torch.rand(OBJECTS, 2, generator=g) * 0.4 * min(height, width)
        boxes = torch.cat([corner, corner + sides], 1)
        targets.append(Targets(boxes, torch.randint(80, (OBJECTS,), generator=g)))
    return images, targets


def our_step(model: Any, images: list[Tensor], targets: list[Targets], device: torch.device) -> Any:
    """Return a function that makes one step and returns the losses."""
    if device.type == "cpu":
        keep_freed_memory()
    model.to(device).train()
    if channels_last(CONFIG, device, model):
        model.to(memory_format=torch.channels_last)
    losses = Losses(model, model, CONFIG, World(device), precision_on(CONFIG, device))
    optimizer = make_optimizer(model, CONFIG)
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    batch = SeededBatch(images, targets, torch.arange(IMAGES))

    def step() -> dict[str, Tensor]:
        found = losses.backward(batch, IMAGES, scaler, 1.0, last=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return found

    return step


def torchvision_step(model: Any, images: list[Tensor], targets: list[Targets], device: torch.device) -> Any:
    """Return the same step of torchvision's model."""
    model.to(device).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=1e-4)

    def step() -> dict[str, Tensor]:
        found = model([i.to(device).float() / 255 for i in images],
                      [{"boxes": t.boxes.to(device), "labels": t.labels.to(device) + 1} for t in targets])  # fmt: skip
        loss = torch.stack(list(found.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach(), **{name: value.detach() for name, value in found.items()}}

    return step


def check_losses(ours: dict[str, Tensor], theirs: dict[str, Tensor], peer: str) -> None:
    """Raise unless the losses agree up to the choice of samples."""
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert float(theirs[name]) == pytest.approx(float(value), rel=0.15, abs=0.02), f"{name} of {peer}"


@pytest.mark.parametrize("name", list(SIZES))
def bench_training_step(compare, benchmark, device, name: str) -> None:
    torch.manual_seed(0)
    images, targets = make_batch(*SIZES[name])
    model = models.build(name, **(SMALL[name] if benchmark.disabled else {}))
    theirs = contenders.torchvision_model(name, SMALL[name] if benchmark.disabled else {})
    peers = {}
    if theirs is not None:
        calibrate_(theirs, images[0].float() / 255)  # untrained weights amplify the choice of samples
        checkpoints.load(model, theirs.state_dict())
        peers["torchvision"] = torchvision_step(theirs, images, targets, device)
    step = our_step(model, images, targets, device)
    compare(step, peers, check_losses, images=IMAGES)
