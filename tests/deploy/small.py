"""Every preset narrowed to what a test has time for, with norms that do something."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyrcnn import models


def small(name: str, **changes: Any) -> Any:
    """The preset with the same structure, fewer classes, narrower and smaller wherever that costs time."""
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


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    return [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in sizes or ((60, 90), (80, 50))]
