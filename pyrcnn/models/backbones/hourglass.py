"""Hourglass-104 (Newell et al. 2016, with CornerNet's residual blocks: Law and Deng 2018).

Modules carry the names of TensorFlow's ``CenterNetHourglassFeatureExtractor``, so that a checkpoint's route is our name
with "/" for ".".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers import ConvNorm, Norm, batch_norm, glorot_uniform, upsample_nearest

INNERMOST_BLOCKS = 4


class Residual(nn.Module):
    """3x3 with ReLU, 3x3 without, plus the input (projected by 1x1 where the shape changes), ReLU."""

    def __init__(self, inputs: int, outputs: int, norm: Norm, stride: int = 1):
        super().__init__()
        self.conv_block = ConvNorm(inputs, outputs, 3, stride, norm=norm)
        self.conv = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm = norm(outputs)
        same = stride == 1 and inputs == outputs
        self.skip = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride, norm=norm, act=None)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H / stride, W / stride]."""
        return torch.relu(self.norm(self.conv(self.conv_block(x))) + self.skip(x))


class Hourglass(nn.Module):
    """Halve, recurse into the remaining ``dims``, double; beside it two blocks at full size. In and out: dims[0]."""

    def __init__(self, dims: Sequence[int], norm: Norm):
        super().__init__()
        outer, inner = dims[:2]
        self.encoder_block1 = nn.Sequential(Residual(outer, outer, norm), Residual(outer, outer, norm))
        self.encoder_block2 = nn.Sequential(Residual(outer, inner, norm, stride=2), Residual(inner, inner, norm))
        deeper = len(dims) > 2
        self.inner_block = nn.Sequential(
            *(
                [Hourglass(dims[1:], norm)]
                if deeper
                else [Residual(inner, inner, norm) for _ in range(INNERMOST_BLOCKS)]
            )
        )
        self.decoder_block = nn.Sequential(Residual(inner, inner, norm), Residual(inner, outer, norm))

    def forward(self, x: Tensor) -> Tensor:
        """[N, dims[0], H, W] → the same shape; H and W divisible by 2 ** (len(dims) - 1)."""
        return self.encoder_block1(x) + upsample_nearest(self.decoder_block(self.inner_block(self.encoder_block2(x))))


class Stem(nn.Module):
    """7x7 of stride 2, then a residual block of stride 2: [N, 3, H, W] → [N, outputs, H/4, W/4]."""

    def __init__(self, width: int, outputs: int, norm: Norm):
        super().__init__()
        self.conv_block = ConvNorm(3, width, 7, 2, norm=norm)
        self.residual_block = Residual(width, outputs, norm, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] → [N, outputs, H/4, W/4]."""
        return self.residual_block(self.conv_block(x))


class StackedHourglass(nn.Module):
    """Two hourglasses in a row, each with an output of dims[0] channels at stride 4; the second sees the first's.

    ``stem`` is the width of the first convolution and ``dims`` the widths of the nested levels. The defaults make
    Hourglass-104; the input's sides must be multiples of ``size_multiple``, 128.
    """

    def __init__(
        self,
        stem: int = 128,
        dims: Sequence[int] = (256, 256, 384, 384, 384, 512),
        stacks: int = 2,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.9,
    ):
        super().__init__()
        self.channels, self.strides = [dims[0]] * stacks, [4] * stacks
        self.size_multiple = 4 * 2 ** (len(dims) - 1)
        norm = batch_norm(norm_eps, norm_momentum)
        width = dims[0]

        def project() -> nn.Module:
            return ConvNorm(width, width, 1, norm=norm, act=None)

        between = range(stacks - 1)
        self.downsample_input = Stem(stem, width, norm)
        self.hourglass_network = nn.ModuleList(Hourglass(dims, norm) for _ in range(stacks))
        self.output_conv = nn.ModuleList(ConvNorm(width, width, 3, norm=norm) for _ in range(stacks))
        self.intermediate_conv1 = nn.ModuleList(project() for _ in between)
        self.intermediate_conv2 = nn.ModuleList(project() for _ in between)
        self.intermediate_residual = nn.ModuleList(Residual(width, width, norm) for _ in between)
        glorot_uniform(self)

    @property
    def stages(self) -> list[nn.Module]:
        """The stem, then each hourglass."""
        return [self.downsample_input, *self.hourglass_network]

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W] → one [N, dims[0], H/4, W/4] per stack."""
        x = self.downsample_input(x)
        outputs = []
        for stack, (hourglass, output) in enumerate(zip(self.hourglass_network, self.output_conv, strict=True)):
            outputs.append(output(hourglass(x)))
            if stack + 1 < len(self.hourglass_network):
                x = torch.relu(self.intermediate_conv1[stack](x) + self.intermediate_conv2[stack](outputs[-1]))
                x = self.intermediate_residual[stack](x)
        return outputs
