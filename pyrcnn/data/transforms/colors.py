"""Transforms of colours. They leave the targets as they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import require
from ...structures import Targets
from .base import Pair, check_range, uniform, whole_number

LUMA = (0.299, 0.587, 0.114)
# The principal components of ImageNet's colours in RGB 0..1, one per column, and their standard deviations, as in
# CenterNet (Zhou et al. 2019), which lists them for BGR.
COMPONENTS = (
    (-0.56089297, 0.71832671, 0.41158938), (-0.5832747, 0.00994535, -0.81221408),
    (-0.58752847, -0.69563484, 0.41340352),
)  # fmt: skip
DEVIATIONS = (0.2141788, 0.01817699, 0.00341571)


def _as_bytes(values: Tensor, image: Tensor) -> Tensor:
    """Return ``values``, 0 to 255, rounded to uint8 in the shape of ``image``."""
    return values.round_().clamp_(0, 255).to(torch.uint8).view_as(image)


def shift_hue(colours: Tensor, shift: float) -> Tensor:
    """Return ``colours`` [3, K] with their hue turned by ``shift``, 1 being a whole turn of HSV's circle."""
    value, least = colours.amax(0), colours.amin(0)
    chroma = value - least
    r, g, b = colours / chroma.clamp(min=torch.finfo(colours.dtype).tiny)
    # the hue in sixths: 0 is red, 2 green, 4 blue
    hue = torch.where(colours[0] == value, g - b, torch.where(colours[1] == value, b - r + 2, r - g + 4))
    hue = torch.where(chroma > 0, hue, 0.0) + 6 * shift
    offsets = torch.tensor([5.0, 3.0, 1.0], dtype=colours.dtype)[:, None]
    around = (hue + offsets).remainder(6)
    return value - chroma * torch.minimum(around, 4 - around).clamp(0, 1)


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast and saturation, each by a factor of up to 1 ± its amount, and turn the hue.

    The first three are linear in the colours, so together they are one 3x3 matrix and one offset per image. The hue
    turns by up to ± ``hue`` of HSV's circle.

    Args:
        brightness: the factor is from 1 - brightness to 1 + brightness.
        contrast: likewise.
        saturation: likewise.
        hue: the largest turn, as a share of the circle.

    Raises:
        pyrcnn.InputError: for a negative amount.

    Example:
        >>> image, objects = torch.zeros(3, 8, 8, dtype=torch.uint8), Targets(torch.zeros(0, 4), torch.zeros(0).long())
        >>> ColorJitter(0.4, contrast=0.0)(image, objects, torch.Generator())[0].dtype
        torch.uint8
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue"):
            require(getattr(self, name) >= 0, f"{name} must be at least 0, got {getattr(self, name)}")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the recoloured image and the targets."""
        amounts = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = (1 + uniform(-amount, amount, generator) for amount in amounts)
        luma = torch.tensor(LUMA)
        colours = image.flatten(1).float()  # [3, H * W]
        mean = (luma * colours.mean(dim=1)).sum() * brightness
        matrix = saturation * torch.eye(3) + (1 - saturation) * luma.expand(3, 3)
        changed = torch.addmm(((1 - contrast) * mean).expand(3, 1), matrix * (brightness * contrast), colours)
        if self.hue:
            changed = shift_hue(changed.clamp_(0, 255), uniform(-self.hue, self.hue, generator))
        return _as_bytes(changed, image), targets


@dataclass(frozen=True)
class ColorJitterTF:
    """Turn the hue, then change contrast, saturation and brightness, as the TensorFlow zoo's CenterNet does.

    Colours are 0 to 1, and are clipped after each step. The hue turns by up to ± ``hue`` of HSV's circle. Contrast
    multiplies each channel's distance from its mean. Saturation multiplies HSV's. Brightness adds up to ±
    ``brightness``.

    Args:
        hue: the largest turn, as a share of the circle.
        contrast: the smallest and the largest factor.
        saturation: the smallest and the largest factor.
        brightness: the largest amount that is added, where white is 1.

    Raises:
        pyrcnn.InputError: for values out of range.

    Example:
        >>> image, objects = torch.zeros(3, 8, 8, dtype=torch.uint8), Targets(torch.zeros(0, 4), torch.zeros(0).long())
        >>> ColorJitterTF(brightness=0.1)(image, objects, torch.Generator())[0].max() <= 26
        tensor(True)
    """

    hue: float = 0.02
    contrast: tuple[float, float] = (0.8, 1.25)
    saturation: tuple[float, float] = (0.8, 1.25)
    brightness: float = 0.2

    def __post_init__(self) -> None:
        for name in ("hue", "brightness"):
            require(getattr(self, name) >= 0, f"{name} must be at least 0, got {getattr(self, name)}")
        check_range(*self.contrast, names="contrast")
        check_range(*self.saturation, names="saturation")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the recoloured image and the targets."""
        hue = uniform(-self.hue, self.hue, generator)
        contrast, saturation = uniform(*self.contrast, generator), uniform(*self.saturation, generator)
        brightness = uniform(-self.brightness, self.brightness, generator)
        colours = shift_hue(image.flatten(1).float() / 255, hue)  # [3, H * W], always in 0..1
        mean = colours.mean(dim=1, keepdim=True)
        colours = torch.lerp(mean, colours, contrast).clamp_(0, 1)
        value = colours.amax(0)
        chroma = value - colours.amin(0)
        most = value / chroma.clamp(min=torch.finfo(colours.dtype).tiny)  # the factor to full saturation
        colours = value - (value - colours) * most.clamp(max=saturation)
        return _as_bytes((colours + brightness) * 255, image), targets


@dataclass(frozen=True)
class LightingNoise:
    """Add a random amount of each principal component of ImageNet's colours (Krizhevsky et al. 2012; CenterNet's).

    The amounts are normal with ``deviation``, times the component's own.

    Args:
        deviation: the standard deviation of the amounts.

    Raises:
        pyrcnn.InputError: for a negative deviation.

    Example:
        >>> image, objects = torch.zeros(3, 8, 8, dtype=torch.uint8), Targets(torch.zeros(0, 4), torch.zeros(0).long())
        >>> LightingNoise()(image, objects, torch.Generator())[0].shape
        torch.Size([3, 8, 8])
    """

    deviation: float = 0.1

    def __post_init__(self) -> None:
        require(self.deviation >= 0, f"deviation must be at least 0, got {self.deviation}")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the recoloured image and the targets."""
        amounts = self.deviation * torch.randn(3, generator=generator)
        added = 255 * (torch.tensor(COMPONENTS) @ (torch.tensor(DEVIATIONS) * amounts))
        return _as_bytes(image.flatten(1) + added[:, None], image), targets


@dataclass(frozen=True)
class PatchGaussian:
    """Add normal noise to a square around a random pixel (Lopes et al. 2019), as the TensorFlow zoo's MobileNets do.

    The square's side is a whole number from ``low`` to ``high``, without ``high``; it may reach outside the image. The
    noise's deviation is uniform up to ``deviation``, where colours are 0 to 1.

    Args:
        low: the smallest side of the square, in pixels.
        high: the side is below this.
        deviation: the largest standard deviation of the noise, where white is 1.

    Raises:
        pyrcnn.InputError: for values out of range.

    Example:
        >>> image, objects = torch.zeros(3, 8, 8, dtype=torch.uint8), Targets(torch.zeros(0, 4), torch.zeros(0).long())
        >>> PatchGaussian(high=8)(image, objects, torch.Generator())[0].shape
        torch.Size([3, 8, 8])
    """

    low: int = 1
    high: int = 250
    deviation: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.low < self.high, f"low and high must be positive and rise, got {self.low} and {self.high}")
        require(self.deviation >= 0, f"deviation must be at least 0, got {self.deviation}")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the image with the noise and the targets."""
        height, width = image.shape[1:]
        side = whole_number(self.low, self.high - 1, generator)
        deviation = uniform(0, self.deviation, generator)
        y, x = whole_number(0, height - 1, generator), whole_number(0, width - 1, generator)
        above, below = side // 2, side - side // 2
        changed = image.clone()
        patch = changed[:, max(0, y - above) : y + below, max(0, x - above) : x + below]
        noise = torch.randn(patch.shape, generator=generator)
        patch.copy_((patch + 255 * deviation * noise).round_().clamp_(0, 255))
        return changed, targets
