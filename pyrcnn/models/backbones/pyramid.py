"""A feature pyramid on a backbone (Lin et al. 2017), and frozen batch norms for fine-tuning."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from ...ops import FeaturePyramidNetwork, FrozenBatchNorm2d, LastLevelMaxPool


class Pyramid(nn.Module):
    """``body``'s feature maps at one width, each with the coarser ones added; ``extra`` adds a subsampled level.

    ``norm``: batch norm after the pyramid's convolutions, as in torchvision's v2 models. Names:
    ``fpn.inner_blocks.L.0`` (1×1), ``fpn.layer_blocks.L.0`` (3×3), and ``.1`` the norm.
    """

    def __init__(self, body: Any, channels: int, norm: bool = False, extra: bool = True):
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(
            list(body.channels),
            channels,
            extra_blocks=LastLevelMaxPool() if extra else None,
            norm_layer=nn.BatchNorm2d if norm else None,
        )
        self.strides = [*body.strides, 2 * body.strides[-1]] if extra else list(body.strides)
        self.channels = [channels] * len(self.strides)

    @property
    def stages(self) -> list[nn.Module]:
        """The body's stages: the pyramid always trains."""
        return self.body.stages

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """[N, 3, H, W] → per level [N, channels, H / stride, W / stride], finest first."""
        maps = OrderedDict((str(level), x) for level, x in enumerate(self.body(pixels)))
        return list(self.fpn(maps).values())


class Plain(nn.Module):
    """``body`` alone, under the name that it has inside a :class:`Pyramid`."""

    def __init__(self, body: Any):
        super().__init__()
        self.body = body
        self.channels, self.strides = body.channels, body.strides

    @property
    def stages(self) -> list[nn.Module]:
        """The body's stages."""
        return self.body.stages

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """The body's feature maps."""
        return self.body(pixels)


def freeze_norms(module: nn.Module) -> None:
    """Replace every batch norm below ``module`` by one with fixed statistics, scale and shift, of the same values."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _frozen(child))
        else:
            freeze_norms(child)


def _frozen(norm: nn.BatchNorm2d) -> nn.Module:
    frozen = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    frozen.load_state_dict({k: v for k, v in norm.state_dict().items() if k != "num_batches_tracked"})
    return frozen.to(norm.weight.device)
