"""MobileNetV2 at width 1.0 (Sandler et al. 2018), with the numerics of Keras or torchvision."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..layers import ConvNorm, Norm, batch_norm, glorot_uniform

# (outputs, stride) of the seventeen blocks: the paper's table 2, one entry per block
BLOCKS = (
    (16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1),
    (64, 1), (96, 1), (96, 1), (96, 1), (160, 2), (160, 1), (160, 1), (320, 1),
)  # fmt: skip
TAPS = (2, 5, 9)  # the blocks whose outputs are levels of strides 4, 8 and 16; the last convolution's has stride 32


def torchvision_names() -> dict[str, str]:
    """Our layer → the layer in torchvision's ``mobilenet_v2``; parameters have the same names in both."""
    names = {"stem.conv": "features.0.0", "stem.norm": "features.0.1"}
    for index in range(len(BLOCKS)):
        parts = ["expand", "depthwise"] if index else ["depthwise"]
        block = f"features.{index + 1}.conv"
        for place, part in enumerate(parts):
            names[f"blocks.{index}.{part}.conv"] = f"{block}.{place}.0"
            names[f"blocks.{index}.{part}.norm"] = f"{block}.{place}.1"
        names[f"blocks.{index}.project.conv"] = f"{block}.{len(parts)}"
        names[f"blocks.{index}.project.norm"] = f"{block}.{len(parts) + 1}"
    return names | {"last.conv": "features.18.0", "last.norm": "features.18.1"}


class InvertedResidual(nn.Module):
    """1x1 convolution to six times the channels, depthwise 3x3, linear 1x1; plus the input if shapes are equal."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, norm: Norm, padding: str):
        super().__init__()
        width = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand = ConvNorm(inputs, width, 1, norm=norm, act=nn.ReLU6) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(width, width, 3, stride, groups=width, norm=norm, act=nn.ReLU6, padding=padding)
        self.project = ConvNorm(width, outputs, 1, norm=norm, act=None)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H / stride, W / stride]."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Maps of 24, 32, 64 and 1280 channels at strides 4, 8, 16 and 32; with other ``taps``, those blocks' widths.

    Without ``top``, the last 1x1 convolution (320 to 1280 channels) is left out.

    ``padding`` "same" with ``norm_eps`` 1e-3 and pixels x / 127.5 - 1 is Keras' network, "symmetric" with 1e-5 and
    ImageNet's mean and deviation is torchvision's. Weights trained for one lose accuracy in the other.

    Names: ``stem``, ``blocks.B.{expand,depthwise,project}``, ``last``, each with ``.conv`` and ``.norm``. Block B is
    Keras' ``block_B`` (0: ``expanded_conv``) and torchvision's ``features.{B + 1}``.
    """

    def __init__(
        self,
        padding: str = "same",
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.0003,
        taps: Sequence[int] = TAPS,
        top: bool = True,
    ):
        super().__init__()
        self.taps = tuple(taps)
        self.channels = [*(BLOCKS[tap][0] for tap in self.taps), 1280 if top else 320]
        self.strides = [4, 8, 16, 32]
        self.size_multiple = 32
        norm = batch_norm(norm_eps, norm_momentum)
        self.stem = ConvNorm(3, 32, 3, 2, norm=norm, act=nn.ReLU6, padding=padding)
        self.blocks = nn.ModuleList()
        inputs = 32
        for index, (outputs, stride) in enumerate(BLOCKS):
            self.blocks.append(InvertedResidual(inputs, outputs, stride, 6 if index else 1, norm, padding))
            inputs = outputs
        self.last = ConvNorm(inputs, 1280, 1, norm=norm, act=nn.ReLU6) if top else nn.Identity()
        glorot_uniform(self)

    @property
    def stages(self) -> list[nn.Module]:
        """Seven stages, lowest first: the stem with the blocks of stride 2, then one per tap and stride change."""
        b = self.blocks
        parts = [self.stem, b[0]], b[1:3], b[3:6], b[6:10], b[10:13], b[13:17], [self.last]
        return [nn.ModuleList(part) for part in parts]

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W] → per level [N, channels[i], H / strides[i], W / strides[i]], finest first."""
        x = self.stem(x)
        levels = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                levels.append(x)
        return [*levels, self.last(x)]
