"""Necks of CenterNet: feature maps of a backbone → one map of stride 4."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import Norm, batch_norm, conv3x3, glorot_uniform, upsample_nearest


class ConvNormReLU(nn.Module):
    """3x3 convolution with bias, plain or separable, batch norm, ReLU: ``conv``, ``norm``."""

    def __init__(self, inputs: int, outputs: int, norm: Norm, separable: bool = False):
        super().__init__()
        self.conv = conv3x3(inputs, outputs, separable)
        self.norm = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H, W]."""
        return F.relu(self.norm(self.conv(x)))


class TopDown(nn.Module):
    """The TF zoo's feature pyramid: for each finer map, upsample, add its 1x1 projection, and convolve 3x3.

    ``laterals`` and ``widths`` are the channels before and after each 3x3 convolution, coarse to fine.
    Names: ``top``, ``laterals.I``, ``merges.I.{conv,norm}``.
    """

    def __init__(
        self,
        channels: Sequence[int],
        laterals: Sequence[int],
        widths: Sequence[int],
        separable: bool = False,
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.01,
    ):
        super().__init__()
        norm = batch_norm(norm_eps, norm_momentum)
        finer = list(channels)[-2::-1][: len(laterals)]
        self.top = nn.Conv2d(channels[-1], laterals[0], 1)
        self.laterals = nn.ModuleList(nn.Conv2d(skip, width, 1) for skip, width in zip(finer, laterals, strict=True))
        self.merges = nn.ModuleList(
            ConvNormReLU(lateral, width, norm, separable) for lateral, width in zip(laterals, widths, strict=True)
        )
        self.channels = [widths[-1]]
        glorot_uniform(self)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Maps, finest first → one map [N, widths[-1], H, W] of the size of the finest."""
        x = self.top(levels[-1])
        skips = levels[-2::-1]
        for lateral, merge, skip in zip(self.laterals, self.merges, skips, strict=True):
            x = merge(upsample_nearest(x) + lateral(skip))
        return [x]


class UpConvNormReLU(nn.Module):
    """Transposed 3x3 convolution of stride 2 with bias, batch norm, ReLU: ``conv``, ``norm``."""

    def __init__(self, channels: int, norm: Norm):
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 3, stride=2)
        self.norm = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, 2H, 2W]; without the last of 2H + 1 rows and columns, as in TensorFlow's 'same'."""
        return F.relu(self.norm(self.conv(x)[..., :-1, :-1]))


class Deconvolutions(nn.Module):
    """From the coarsest map: per width a 3x3 convolution, then a transposed one that doubles the size.

    Names: ``convs.I.{conv,norm}``, ``ups.I.{conv,norm}``.
    """

    def __init__(
        self, channels: Sequence[int], widths: Sequence[int], norm_eps: float = 1e-3, norm_momentum: float = 0.01
    ):
        super().__init__()
        norm = batch_norm(norm_eps, norm_momentum)
        inputs = [channels[-1], *widths[:-1]]
        self.convs = nn.ModuleList(ConvNormReLU(i, width, norm) for i, width in zip(inputs, widths, strict=True))
        self.ups = nn.ModuleList(UpConvNormReLU(width, norm) for width in widths)
        self.channels = [widths[-1]]
        glorot_uniform(self)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Maps, finest first → one map [N, widths[-1], H * 2 ** len(widths), …], from the coarsest."""
        x = levels[-1]
        for conv, up in zip(self.convs, self.ups, strict=True):
            x = up(conv(x))
        return [x]


class NoNeck(nn.Module):
    """The backbone's maps as they are (Hourglass: one map per stack)."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.channels = list(channels)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Maps → the same."""
        return levels
