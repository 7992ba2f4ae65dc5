"""Backbones by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from .hourglass import StackedHourglass
from .mobilenet_v2 import MobileNetV2
from .resnet import ResNet
from .resnet_v1 import DEPTHS, ResNetV1
from .resnet_v2 import ResNetV2
from .vgg import VGG16


class Backbone(Protocol):
    """What a detector needs from a backbone: feature maps, finest first, and these attributes."""

    channels: list[int]  # per level
    strides: list[int]  # per level, pixels per cell
    stages: list[nn.Module]  # modules from the lowest up, for freezing
    size_multiple: int  # with sides of its multiples, level i has exactly H / strides[i] × W / strides[i] cells

    def __call__(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W] → per level [N, channels[i], H / strides[i], W / strides[i]]."""
        ...


BACKBONES: dict[str, Callable[..., Any]] = {
    "hourglass104": StackedHourglass,
    "mobilenet_v2": MobileNetV2,
    "resnet50": partial(ResNet, 50),
    "resnet101": partial(ResNet, 101),
    "resnet50_v1": partial(ResNetV1, DEPTHS[50]),
    "resnet101_v1": partial(ResNetV1, DEPTHS[101]),
    "resnet50_v2": partial(ResNetV2, DEPTHS[50]),
    "vgg16": VGG16,
}

__all__ = ["BACKBONES", "VGG16", "Backbone", "MobileNetV2", "ResNet", "ResNetV1", "ResNetV2", "StackedHourglass"]
