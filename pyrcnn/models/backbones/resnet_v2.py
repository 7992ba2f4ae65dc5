"""ResNet with pre-activation as Keras builds it (He et al. 2016, "Identity Mappings in Deep Residual Networks")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers import ConvNorm, Norm, batch_norm, glorot_uniform, max_pool_zero_padded
from .resnet_v1 import WIDTHS


class PreActivation(nn.Module):
    """Norm and ReLU first, then 1x1, 3x3 with the stride, 1x1 with bias; nothing after the sum.

    The first block of a stage projects its shortcut from the activated input; the shortcut of the others is the raw
    input, or every second pixel of it if the block has a stride.
    """

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm):
        super().__init__()
        outputs = 4 * width
        self.stride = stride
        self.preact = norm(inputs)
        self.conv1 = ConvNorm(inputs, width, 1, norm=norm)
        self.conv2 = ConvNorm(width, width, 3, stride, norm=norm)
        self.conv3 = nn.Conv2d(width, outputs, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, 4 * width, H / stride, W / stride]."""
        activated = torch.relu(self.preact(x))
        projects = isinstance(self.shortcut, nn.Conv2d)
        passed = self.shortcut(activated) if projects else x[..., :: self.stride, :: self.stride]
        return passed + self.conv3(self.conv2(self.conv1(activated)))


class ResNetV2(nn.Module):
    """Maps of 256, 512, 1024 and 2048 channels at strides 8, 16, 32 and 32: the stride is in a stage's last block.

    The last map lacks Keras' final norm and ReLU, because CenterNet does not use them.
    Names: ``conv1`` and ``convS.B.{preact,conv1.conv,conv1.norm,conv2.conv,conv2.norm,conv3,shortcut}``: Keras'
    ``conv{S}_block{B + 1}_{preact_bn,1_conv,1_bn,2_conv,2_bn,3_conv,0_conv}``.
    """

    def __init__(self, depths: Sequence[int], norm_eps: float = 1.001e-5, norm_momentum: float = 0.01):
        super().__init__()
        self.channels, self.strides = [4 * width for width in WIDTHS], [8, 16, 32, 32]
        self.size_multiple = 32
        norm = batch_norm(norm_eps, norm_momentum)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        inputs = 64
        for stage, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True), start=2):
            blocks = []
            for block in range(depth):
                blocks.append(PreActivation(inputs, width, 2 if block == depth - 1 and stage < 5 else 1, norm))
                inputs = 4 * width
            self.add_module(f"conv{stage}", nn.Sequential(*blocks))
        glorot_uniform(self)

    @property
    def stages(self) -> list[nn.Module]:
        """conv1 to conv5."""
        return [self.get_submodule(f"conv{stage}") for stage in range(1, 6)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W] → [N, 256, H/8, W/8], [N, 512, H/16, W/16], [N, 1024, H/32, W/32], [N, 2048, H/32, W/32]."""
        stem, *stages = self.stages
        x = max_pool_zero_padded(stem(x))
        levels = []
        for stage in stages:
            x = stage(x)
            levels.append(x)
        return levels
