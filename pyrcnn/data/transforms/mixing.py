"""Transforms that join several items of a data set into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ...errors import require
from ...structures import Targets
from .base import (
    GREY,
    Pair,
    check_probability,
    clip_to_image,
    join_targets,
    resize,
    scale_and_shift,
    whole_number,
)


def _check_others(others: Sequence[Pair], count: int) -> None:
    require(len(others) == count, f"others must be {count} (image, targets), got {len(others)}")


@dataclass(frozen=True)
class Mosaic:
    """With ``probability``, join four items around a random point (Bochkovskiy et al. 2020), as YOLOX does.

    The result has ``size`` (height, width). Each image is resized to fit into half of its sides, and touches the point,
    which is in the middle half of the canvas, with one corner. Parts outside the canvas are cut off; ``fill`` is where
    no image is. A scale transform usually follows: ``ScaleJitter(0.5, 2, size=(640, 640))``.

    Args:
        probability: of a mosaic, 0 to 1.
        size: (height, width) of the result, in pixels.
        fill: the value where no image is, 0 to 255.
        min_visible: objects that keep less than this share of their area are removed, 0 to 1.

    Raises:
        pyrcnn.InputError: for values out of range, and when called without three other items.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> item = image, Targets(torch.tensor([[0.0, 0.0, 32.0, 48.0]]), torch.tensor([0]))
        >>> Mosaic(size=(96, 128))(*item, torch.Generator(), [item] * 3)[0].shape
        torch.Size([3, 96, 128])
    """

    probability: float = 1.0
    size: tuple[int, int] = (1280, 1280)
    fill: int = GREY
    min_visible: float = 0.3
    others: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_probability(self.probability)
        require(min(self.size) > 1, f"size must be at least 2, got {self.size}")
        check_probability(self.min_visible, "min_visible")

    def __call__(
        self, image: Tensor, targets: Targets, generator: torch.Generator, others: Sequence[Pair] = ()
    ) -> Pair:
        """Return the joined image and the targets of all four, or the given ones."""
        _check_others(others, self.others)
        if torch.rand((), generator=generator).item() >= self.probability:
            return image, targets
        height, width = self.size
        center_y, center_x = (whole_number(side // 4, side - side // 4, generator) for side in self.size)
        canvas = image.new_full((3, height, width), self.fill)
        placed = []
        for quarter, (part, objects) in enumerate([(image, targets), *others]):
            h, w = part.shape[1:]
            scale = min(height / 2 / h, width / 2 / w)
            new_h, new_w = max(1, round(h * scale)), max(1, round(w * scale))
            scaled, objects = resize(part, objects, (new_h, new_w))
            top = center_y - new_h if quarter < 2 else center_y
            left = center_x - new_w if quarter % 2 == 0 else center_x
            y1, x1, y2, x2 = max(top, 0), max(left, 0), min(top + new_h, height), min(left + new_w, width)
            canvas[:, y1:y2, x1:x2] = scaled[:, y1 - top : y2 - top, x1 - left : x2 - left]
            placed.append(scale_and_shift(objects, (1.0, 1.0), (left, top)))
        return canvas, clip_to_image(join_targets(placed), self.size, self.min_visible)


@dataclass(frozen=True)
class MixUp:
    """With ``probability``, blend the image with another one, and keep the objects of both (Zhang et al. 2019).

    The images lie on each other with their upper left corners, as they are; the result is as large as both together.
    The first one's share is drawn from the beta distribution with both parameters ``alpha``.

    Args:
        probability: of mixing, 0 to 1.
        alpha: both parameters of the beta distribution.

    Raises:
        pyrcnn.InputError: for values out of range, and when called without another item.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> item = image, Targets(torch.tensor([[0.0, 0.0, 32.0, 48.0]]), torch.tensor([0]))
        >>> len(MixUp(probability=1.0)(*item, torch.Generator(), [item])[1])
        2
    """

    probability: float = 0.5
    alpha: float = 1.5
    others: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_probability(self.probability)
        require(self.alpha > 0, f"alpha must be positive, got {self.alpha}")

    def __call__(
        self, image: Tensor, targets: Targets, generator: torch.Generator, others: Sequence[Pair] = ()
    ) -> Pair:
        """Return the blended image and the targets of both, or the given ones."""
        _check_others(others, self.others)
        if torch.rand((), generator=generator).item() >= self.probability:
            return image, targets
        share = beta(self.alpha, generator)
        sizes = [image.shape[1:], others[0][0].shape[1:]]
        height, width = (max(sides) for sides in zip(*sizes, strict=True))
        blend = torch.zeros(3, height, width)
        for part, weight in ((image, share), (others[0][0], 1 - share)):
            blend[:, : part.shape[1], : part.shape[2]] += weight * part
        return blend.round_().clamp_(0, 255).to(torch.uint8), join_targets([targets, others[0][1]])


def beta(alpha: float, generator: torch.Generator) -> float:
    """Return a random number of the beta distribution with both parameters ``alpha``."""
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))  # torch's takes no generator
