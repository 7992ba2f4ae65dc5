"""ResNet-50 and ResNet-101 (He et al. 2015), in the forms that detectors were published with.

Parameter names are torchvision's: ``conv1``, ``bn1``, ``layer1.0.conv1`` … ``layer4.2.bn3``, ``layer1.0.downsample.0``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import he_normal

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@dataclass(frozen=True)
class ResNetStyle:
    """How published ResNets differ.

    ``stride_in_1x1``: a stage halves the resolution in its first 1×1 convolution (the paper, MSRA's weights) instead of
    the 3×3 one ("v1.5", torchvision). ``same_pool``: the stem's pooling pads as TensorFlow's SAME does (an even size at
    its end only) instead of one cell on every side.
    """

    stride_in_1x1: bool = False
    same_pool: bool = False
    eps: float = 1e-5
    momentum: float = 0.1


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions beside a shortcut: [N, in, H, W] to [N, 4 * width, H / stride, W / stride]."""

    def __init__(self, channels: int, width: int, stride: int, shortcut: bool, style: ResNetStyle) -> None:
        super().__init__()
        first, second = (stride, 1) if style.stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(channels, width, 1, first, bias=False)
        self.bn1 = _norm(width, style)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, bias=False)
        self.bn2 = _norm(width, style)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = _norm(4 * width, style)
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride, bias=False), _norm(4 * width, style))
            if shortcut
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut + branch)."""
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = F.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return F.relu(branch + (x if self.downsample is None else self.downsample(x)))


def _norm(channels: int, style: ResNetStyle) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=style.eps, momentum=style.momentum)


def stage(index: int, depth: int, style: ResNetStyle | None = None) -> nn.Sequential:
    """Stage ``index`` (1 to 4: conv2_x to conv5_x of the paper); ``index`` 4 is also the C4 detectors' RoI head."""
    style = style or ResNetStyle()
    width = 32 * 2**index
    channels = 64 if index == 1 else 2 * width
    stride = 1 if index == 1 else 2
    blocks = [Bottleneck(channels, width, stride, True, style)]
    blocks += [Bottleneck(4 * width, width, 1, False, style) for _ in range(BLOCKS[depth][index - 1] - 1)]
    layers = nn.Sequential(*blocks)
    he_normal(layers)
    return layers


class ResNet(nn.Module):
    """Pixels [N, 3, H, W] → outputs of the stages in ``taps`` (strides 4, 8, 16, 32 for 1 to 4).

    Stages above the highest tap are not built.
    """

    def __init__(self, depth: int, taps: Sequence[int] = (1, 2, 3, 4), style: ResNetStyle | None = None) -> None:
        super().__init__()
        style = style or ResNetStyle()
        self.taps = tuple(taps)
        self.same_pool = style.same_pool
        self.channels = [128 * 2**i for i in self.taps]
        self.strides = [2 * 2**i for i in self.taps]
        self.size_multiple = self.strides[-1]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = _norm(64, style)
        for i in range(1, max(taps) + 1):
            self.add_module(f"layer{i}", stage(i, depth, style))
        he_normal(self.conv1)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Feature maps [N, channels[i], H / strides[i], W / strides[i]], finest first."""
        x = F.relu(self.bn1(self.conv1(pixels)))
        x = max_pool_same(x) if self.same_pool else F.max_pool2d(x, 3, 2, padding=1)
        outputs = []
        for i in range(1, max(self.taps) + 1):
            x = self.get_submodule(f"layer{i}")(x)
            if i in self.taps:
                outputs.append(x)
        return outputs

    @property
    def stages(self) -> list[nn.Module]:
        """The stem, then the stages: what ``trainable_layers`` counts."""
        names = [f"layer{i}" for i in range(1, max(self.taps) + 1)]
        return [nn.ModuleList([self.conv1, self.bn1]), *(self.get_submodule(name) for name in names)]


def max_pool_same(x: Tensor) -> Tensor:
    """3×3 maximum with stride 2, padded as TensorFlow's SAME: an even size only at its end."""
    height, width = x.shape[-2:]
    if height % 2 == width % 2 == 0:  # ceil_mode cuts windows at the end: the same, without a copy of x
        return F.max_pool2d(x, 3, 2, ceil_mode=True)
    padding = (width % 2, 1, height % 2, 1)
    return F.max_pool2d(F.pad(x, padding, value=float("-inf")), 3, 2)
