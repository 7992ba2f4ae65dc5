"""The feature pyramid network with torchvision's names, arguments, parameter names and results, in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import require


class ExtraFPNBlock(nn.Module):
    """Base class for a block that follows a feature pyramid and adds feature maps."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Return (feature maps, names), both with the additions.

        Args:
            results: the pyramid's outputs, fine to coarse.
            x: the pyramid's inputs, fine to coarse.
            names: the names of the outputs.
        """
        return results, names


class LastLevelMaxPool(ExtraFPNBlock):
    """Adds ``pool``: every second row and column of the coarsest feature map.

    For ``extra_blocks`` of :class:`FeaturePyramidNetwork`.

    Example:
        >>> maps, names = LastLevelMaxPool()([torch.rand(1, 5, 8, 8)], [], ["a"])
        >>> names, tuple(maps[1].shape)
        (['a', 'pool'], (1, 5, 4, 4))
    """

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """See :class:`ExtraFPNBlock`."""
        return [*results, F.max_pool2d(results[-1], kernel_size=1, stride=2)], [*names, "pool"]


class LastLevelP6P7(ExtraFPNBlock):
    """Adds RetinaNet's ``p6`` and ``p7``: 3x3 convolutions of stride 2 (Lin et al. 2017, "Focal Loss").

    ``p6`` reads the coarsest output if ``in_channels`` equals ``out_channels``, else the coarsest input.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, 2, 1)
        _initialize(self)
        self.use_P5 = in_channels == out_channels

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """See :class:`ExtraFPNBlock`."""
        p6 = self.p6(results[-1] if self.use_P5 else x[-1])
        return [*results, p6, self.p7(F.relu(p6))], [*names, "p6", "p7"]


def _initialize(module: nn.Module) -> None:
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_uniform_(m.weight, a=1)
            if m.bias is not None:
                nn.init.zeros_(m.bias)


def _convolution(inputs: int, outputs: int, kernel: int, norm_layer: Callable[..., nn.Module] | None) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=norm_layer is None)]
    return nn.Sequential(*layers, *([norm_layer(outputs)] if norm_layer else []))


class FeaturePyramidNetwork(nn.Module):
    """A feature pyramid network (Lin et al. 2017): a dict of feature maps, fine to coarse, to one with equal channels.

    Parameters are named as in torchvision (``inner_blocks.0.0.weight``); state dicts with its older names load too.

    Args:
        in_channels_list: the channels of the inputs, fine to coarse.
        out_channels: the channels of all outputs.
        extra_blocks: an :class:`ExtraFPNBlock` that adds coarser feature maps.
        norm_layer: ``norm_layer(channels)`` follows every convolution, which then has no bias.

    Raises:
        InputError: if a number of channels is 0.

    Example:
        >>> pyramid = FeaturePyramidNetwork([10, 20], 5, LastLevelMaxPool())
        >>> maps = pyramid({"a": torch.rand(1, 10, 8, 8), "b": torch.rand(1, 20, 4, 4)})
        >>> {name: tuple(m.shape) for name, m in maps.items()}
        {'a': (1, 5, 8, 8), 'b': (1, 5, 4, 4), 'pool': (1, 5, 2, 2)}
    """

    _version = 2

    def __init__(
        self,
        in_channels_list: list[int],
        out_channels: int,
        extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        require(0 not in in_channels_list, f"in_channels_list must hold positive numbers, got {in_channels_list}")
        if extra_blocks is not None and not isinstance(extra_blocks, ExtraFPNBlock):
            raise TypeError(f"extra_blocks must be an ExtraFPNBlock, got {type(extra_blocks).__name__}")
        self.inner_blocks = nn.ModuleList(_convolution(c, out_channels, 1, norm_layer) for c in in_channels_list)
        self.layer_blocks = nn.ModuleList(
            _convolution(out_channels, out_channels, 3, norm_layer) for _ in in_channels_list
        )
        _initialize(self)
        self.extra_blocks = extra_blocks

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, metadata: Any, *args: Any) -> None:
        if (metadata.get("version") or 1) < 2:  # each block was a convolution without nn.Sequential
            for block in ("inner_blocks", "layer_blocks"):
                for i in range(len(self.inner_blocks)):
                    for kind in ("weight", "bias"):
                        old = f"{prefix}{block}.{i}.{kind}"
                        if old in state_dict:
                            state_dict[f"{prefix}{block}.{i}.0.{kind}"] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, metadata, *args)

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the pyramid's feature maps under the names of the inputs ``x``, [N, C, H, W] from fine to coarse."""
        names, inputs = list(x.keys()), list(x.values())
        results: list[Tensor] = []
        above: Tensor | None = None
        for map_, inner, layer in zip(
            reversed(inputs), reversed(self.inner_blocks), reversed(self.layer_blocks), strict=True
        ):
            inside = inner(map_)
            if above is not None:
                inside = inside + F.interpolate(above, size=inside.shape[-2:], mode="nearest")
            above = inside
            results.insert(0, layer(inside))
        if self.extra_blocks is not None:
            results, names = self.extra_blocks(results, inputs, names)
        return dict(zip(names, results, strict=False))
