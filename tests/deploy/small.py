"""Small versions of every preset with random norms, and the processors that tests pretend to run on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pyrcnn import models
from pyrcnn.deploy import machine


def small(name: str, **changes: Any) -> Any:
    """The preset with the same structure, but fewer classes and channels and smaller images."""
    config = models.PRESETS[name]
    narrow: dict[str, Any] = {"num_classes": 3}
    if isinstance(config, models.CenterNetConfig):
        narrow |= {"input_size": 128, "stem": 8, "dims": (16, 16, 24, 24, 24, 32), "max_detections": 10}
    else:
        narrow |= {"min_size": 64, "max_size": 96, "fpn_channels": min(config.fpn_channels, 32),
                   "rpn": {"before_nms": (60, 40), "after_nms": (40, 10), "channels": 32},
                   "roi": {"width": 32, "score_threshold": 0.0}}  # fmt: skip
    model = models.build(name, **(narrow | changes)).eval()
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.running_mean.copy_(torch.randn_like(module.running_mean) * 0.1)
            module.running_var.copy_(torch.rand_like(module.running_var) + 0.5)
            with torch.no_grad():
                module.weight.copy_(torch.rand_like(module.weight) + 0.5)
                module.bias.copy_(torch.randn_like(module.bias) * 0.1)
    return model


def images(*sizes: tuple[int, int]) -> list[Tensor]:
    return [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in sizes or ((60, 90), (80, 50))]


def as_on(monkeypatch: pytest.MonkeyPatch, kernels: str | None = None, bfloat16: bool | None = None) -> None:
    """Let :mod:`pyrcnn.deploy` decide as on a processor with these capabilities; None: as on this one."""
    here = machine._detect()
    kernels = here.kernels if kernels is None else kernels
    bfloat16 = here.bfloat16 if bfloat16 is None else bfloat16
    monkeypatch.setattr(machine, "_detect", lambda: machine.Machine(kernels, bfloat16, here.packed))
