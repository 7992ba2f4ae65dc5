"""MultiScaleRoIAlign: RoIAlign over the levels of a feature pyramid, with torchvision's name and arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.fx
from torch import Tensor, nn

from ..errors import require
from ._regions import as_rois, height_and_width
from .roi_align import roi_align_levels


def infer_scale(feature: Tensor, image_size: tuple[int, int]) -> float:
    """Return the power of two nearest to the height of ``feature`` [N, C, H, W] divided by that of the image."""
    return 2.0 ** round(math.log2(feature.shape[2] / image_size[0]))


def _pool(
    x: Mapping[str, Tensor],
    boxes: Sequence[Tensor],
    image_shapes: Sequence[tuple[int, int]],
    featmap_names: Sequence[str],
    output_size: tuple[int, int],
    sampling_ratio: int,
    canonical_scale: int,
    canonical_level: int,
) -> Tensor:
    features = [feature for name, feature in x.items() if name in featmap_names]
    require(len(features) > 0, f"x must hold some of the feature maps {list(featmap_names)}, got {list(x)}")
    require(len(image_shapes) > 0, "image_shapes must hold one (height, width) per image, got none")
    image_size = (max(h for h, _ in image_shapes), max(w for _, w in image_shapes))
    for feature in features:
        require(0 not in feature.shape[2:], f"x must hold feature maps that are not empty, got {list(feature.shape)}")
    scales = [infer_scale(feature, image_size) for feature in features]
    return roi_align_levels(
        features,
        as_rois(boxes),
        output_size,
        scales,
        sampling_ratio,
        canonical_size=canonical_scale,
        canonical_level=canonical_level,
    )


torch.fx.wrap("_pool")


class MultiScaleRoIAlign(nn.Module):
    """Pools each box from the feature map that suits its size (Lin et al. 2017, eq. 1), in one call for all levels.

    The scales of the feature maps are computed from the sizes in each call, so batches may have different sizes.

    Args:
        featmap_names: the names of the feature maps to use; in the input they are ordered fine to coarse.
        output_size: bins per box, one number or (height, width).
        sampling_ratio: samples per bin and axis; 0 or less takes one per cell of the feature map.
        canonical_scale, canonical_level: a box with this side, in pixels, reads this level.

    Raises:
        InputError: when called, for wrong shapes, dtypes or devices.

    Example:
        >>> pool = MultiScaleRoIAlign(["p2", "p3"], 7, 2)
        >>> maps = {"p2": torch.ones(1, 8, 64, 64), "p3": torch.ones(1, 8, 32, 32)}
        >>> pool(maps, [torch.tensor([[4.0, 4, 20, 20]])], [(256, 256)]).shape
        torch.Size([1, 8, 7, 7])
    """

    def __init__(
        self,
        featmap_names: Sequence[str],
        output_size: int | Sequence[int],
        sampling_ratio: int,
        *,
        canonical_scale: int = 224,
        canonical_level: int = 4,
    ) -> None:
        super().__init__()
        self.featmap_names = featmap_names
        self.output_size = height_and_width(output_size)
        self.sampling_ratio = sampling_ratio
        self.canonical_scale = canonical_scale
        self.canonical_level = canonical_level

    def forward(
        self, x: Mapping[str, Tensor], boxes: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return the pooled boxes of all images, [K, C, height, width].

        Args:
            x: feature maps [N, C, H, W] by name.
            boxes: per image, [K, 4] in pixels.
            image_shapes: per image, (height, width) before padding; the feature maps cover the largest.
        """
        return _pool(
            x,
            boxes,
            image_shapes,
            self.featmap_names,
            self.output_size,
            self.sampling_ratio,
            self.canonical_scale,
            self.canonical_level,
        )

    def extra_repr(self) -> str:
        """Return the arguments, for ``print(model)``."""
        return (
            f"featmap_names={self.featmap_names}, output_size={self.output_size}, sampling_ratio={self.sampling_ratio}"
        )
