"""VGG-16 without its classifier (Simonyan and Zisserman 2014), as Ren et al. 2015 use it.

Parameter names are torchvision's: ``features.0`` (conv1_1) to ``features.28`` (conv5_3).
"""

from __future__ import annotations

from torch import Tensor, nn

from ..layers import he_normal

# Convolutions' widths, stage by stage; a 2×2 maximum stands between two stages.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """Pixels [N, 3, H, W] to one feature map [N, 512, H / 16, W / 16]: conv5_3 after its ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = [512]
        self.strides = [16]
        self.size_multiple = 16
        layers: list[nn.Module] = []
        channels = 3
        for i, widths in enumerate(STAGES):
            if i > 0:
                layers.append(nn.MaxPool2d(2, 2))
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        self.features = nn.Sequential(*layers)
        he_normal(self)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """The one feature map, in a list."""
        return [self.features(pixels)]

    @property
    def stages(self) -> list[nn.Module]:
        """The five groups of convolutions, lowest first: what ``trainable_layers`` counts."""
        groups: list[list[nn.Module]] = [[]]
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                groups.append([])
            groups[-1].append(layer)
        return [nn.ModuleList(group) for group in groups]
