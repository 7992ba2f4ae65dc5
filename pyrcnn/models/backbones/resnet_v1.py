"""ResNet as Keras builds it (He et al. 2015, "Deep Residual Learning"): biases everywhere, stride on the first 1x1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import ConvNorm, Norm, batch_norm, glorot_uniform

WIDTHS = (64, 128, 256, 512)  # of the bottlenecks in conv2 to conv5; outputs have four times as many channels
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Bottleneck(nn.Module):
    """1x1 with the stride, 3x3, 1x1, each with bias and batch norm; the shortcut is projected where shapes differ."""

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm):
        super().__init__()
        outputs = 4 * width
        self.conv1 = ConvNorm(inputs, width, 1, stride, bias=True, norm=norm)
        self.conv2 = ConvNorm(width, width, 3, bias=True, norm=norm)
        self.conv3 = ConvNorm(width, outputs, 1, bias=True, norm=norm, act=None)
        projected = inputs != outputs
        self.shortcut = (
            ConvNorm(inputs, outputs, 1, stride, bias=True, norm=norm, act=None) if projected else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, 4 * width, H / stride, W / stride]."""
        return torch.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))


class ResNetV1(nn.Module):
    """Maps of 256, 512, 1024 and 2048 channels at strides 4, 8, 16 and 32 (conv2 to conv5 of the paper's table 1).

    Names: ``conv1`` and ``convS.B.{conv1,conv2,conv3,shortcut}``, each with ``.conv`` and ``.norm``: Keras'
    ``conv{S}_block{B + 1}_{1,2,3,0}_{conv,bn}``. torchvision's weights do not fit, because its stride is on the 3x3.
    """

    def __init__(self, depths: Sequence[int], norm_eps: float = 1.001e-5, norm_momentum: float = 0.01):
        super().__init__()
        self.channels, self.strides = [4 * width for width in WIDTHS], [4, 8, 16, 32]
        self.size_multiple = 32
        norm = batch_norm(norm_eps, norm_momentum)
        self.conv1 = ConvNorm(3, 64, 7, 2, bias=True, norm=norm)
        inputs = 64
        for stage, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True), start=2):
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(inputs, width, 2 if block == 0 and stage > 2 else 1, norm))
                inputs = 4 * width
            self.add_module(f"conv{stage}", nn.Sequential(*blocks))
        glorot_uniform(self)

    @property
    def stages(self) -> list[nn.Module]:
        """conv1 to conv5."""
        return [self.get_submodule(f"conv{stage}") for stage in range(1, 6)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W] → [N, 256, H/4, W/4], [N, 512, H/8, W/8], [N, 1024, H/16, W/16], [N, 2048, H/32, W/32]."""
        stem, *stages = self.stages
        x = F.max_pool2d(stem(x), 3, 2, padding=1)  # Keras pads with zeros, which change nothing after a ReLU
        levels = []
        for stage in stages:
            x = stage(x)
            levels.append(x)
        return levels
