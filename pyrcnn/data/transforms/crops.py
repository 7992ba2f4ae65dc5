"""Transforms that cut out a part of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import require
from ...structures import Targets
from .base import Pair, check_probability, check_range, cut_window, uniform, whole_number


@dataclass(frozen=True)
class RandomCrop:
    """With ``probability``, cut out a part whose sides are ``low`` to ``high`` times those of the image.

    Args:
        low: the least share of a side.
        high: the largest share of a side, at most 1.
        probability: of a crop, 0 to 1.
        min_visible: objects that keep less than this share of their area are removed, 0 to 1.

    Raises:
        pyrcnn.InputError: for values out of range.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> objects = Targets(torch.tensor([[0.0, 0.0, 64.0, 48.0]]), torch.tensor([0]))
        >>> RandomCrop(0.5, 0.5, probability=1.0, min_visible=0.0)(image, objects, torch.Generator())[0].shape
        torch.Size([3, 24, 32])
    """

    low: float = 0.5
    high: float = 1.0
    probability: float = 0.5
    min_visible: float = 0.3

    def __post_init__(self) -> None:
        check_range(self.low, self.high)
        require(self.high <= 1, f"high must be at most 1, got {self.high}")
        check_probability(self.probability)
        check_probability(self.min_visible, "min_visible")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the part and the targets in it, or the given image and targets."""
        if torch.rand((), generator=generator).item() >= self.probability:
            return image, targets
        height, width = image.shape[1:]
        h = max(1, round(height * uniform(self.low, self.high, generator)))
        w = max(1, round(width * uniform(self.low, self.high, generator)))
        top, left = (int(uniform(0, room + 1, generator)) for room in (height - h, width - w))
        return cut_window(image, targets, (top, left, h, w), self.min_visible)


@dataclass(frozen=True)
class RandomCenterCrop:
    """Cut out a square around a random point, with black where it leaves the image (Zhou et al. 2019).

    Its side is one of ``steps`` sizes from ``low`` to ``high`` times the image's longer side. Its centre is at least
    ``border`` pixels from the image's borders; ``border`` is halved until twice the border fits into that side of the
    image. A box is kept if any part of it is visible, which is ``min_visible`` 0.

    Args:
        low: the smallest side, as a share of the image's longer side.
        high: the largest side, likewise.
        steps: how many sizes there are.
        border: the least distance of the centre from the image's borders, in pixels.
        min_visible: objects that keep less than this share of their area are removed, 0 to 1.

    Raises:
        pyrcnn.InputError: for values out of range.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> objects = Targets(torch.tensor([[0.0, 0.0, 64.0, 48.0]]), torch.tensor([0]))
        >>> RandomCenterCrop(1.0, 1.0)(image, objects, torch.Generator())[0].shape
        torch.Size([3, 64, 64])
    """

    low: float = 0.6
    high: float = 1.3
    steps: int = 8
    border: int = 128
    min_visible: float = 0.0

    def __post_init__(self) -> None:
        check_range(self.low, self.high)
        require(self.steps > 0, f"steps must be positive, got {self.steps}")
        require(self.border >= 0, f"border must be at least 0, got {self.border}")
        check_probability(self.min_visible, "min_visible")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the square and the targets in it."""
        scales = torch.linspace(self.low, self.high, self.steps, dtype=torch.float64)
        scale = scales[whole_number(0, self.steps - 1, generator)].item()
        side = max(1, int(scale * max(image.shape[1:]) + 1e-6))
        corner = []
        for length in image.shape[1:]:
            border = self._border_of(length)
            corner.append(whole_number(border, length - border, generator) - side // 2)
        # a centre on the far border of a one-pixel image would leave nothing of it in the square
        top, left = (min(c, length - 1) for c, length in zip(corner, image.shape[1:], strict=True))
        return cut_window(image, targets, (top, left, side, side), self.min_visible)

    def _border_of(self, length: int) -> int:
        border = self.border
        while 2 * border > length:
            border //= 2
        return border


@dataclass(frozen=True)
class RandomCropTF:
    """With ``probability``, cut out a part that holds at least one whole object, as the TensorFlow zoo does.

    The part has a random aspect ratio (width / height), then a random height among those whose area is in ``area``, as
    a fraction of the image's. It is drawn up to ``attempts`` times, until one object lies inside to at least
    ``covered`` of its area; if none does, the image stays whole. An image without objects counts as one object, so that
    it hardly ever changes (TensorFlow's ``sample_distorted_bounding_box``).

    Args:
        probability: of a crop, 0 to 1.
        aspect: the smallest and the largest width / height.
        area: the smallest and the largest area, as shares of the image's.
        covered: the least share of an object's area inside the part.
        attempts: how often a part is drawn.
        min_visible: objects that keep less than this share of their area are removed, 0 to 1.

    Raises:
        pyrcnn.InputError: for values out of range.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> objects = Targets(torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([0]))
        >>> len(RandomCropTF(probability=1.0)(image, objects, torch.Generator())[1])
        1
    """

    probability: float = 0.75
    aspect: tuple[float, float] = (0.5, 1.7)
    area: tuple[float, float] = (0.1, 1.0)
    covered: float = 1.0
    attempts: int = 100
    min_visible: float = 0.3

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range(*self.aspect, names="aspect")
        check_range(*self.area, names="area")
        check_probability(self.area[1], "area")
        check_probability(self.covered, "covered")
        require(self.attempts > 0, f"attempts must be positive, got {self.attempts}")
        check_probability(self.min_visible, "min_visible")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the part and the targets in it, or the given image and targets."""
        if torch.rand((), generator=generator).item() >= self.probability:
            return image, targets
        height, width = image.shape[1:]
        whole = torch.tensor([[0.0, 0.0, width, height]])
        boxes = targets.boxes.trunc() if len(targets) else whole  # TensorFlow takes the objects' whole pixels
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        boxes, areas = boxes[areas >= 1], areas[areas >= 1]
        for _ in range(self.attempts):
            window = self._draw(height, width, generator)
            if window is None:
                continue
            top, left, h, w = window
            limits = boxes.new_tensor([left, top, left + w, top + h])
            corners = torch.cat([boxes[:, :2].maximum(limits[:2]), boxes[:, 2:].minimum(limits[2:])], 1)
            inside = (corners[:, 2:] - corners[:, :2]).clamp(min=0).prod(1)
            if bool((inside >= self.covered * areas).any()):
                return cut_window(image, targets, window, self.min_visible)
        return image, targets

    def _draw(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int] | None:
        """Return a random window (top, left, height, width), or None if its area or sides do not fit."""
        aspect = uniform(*self.aspect, generator)
        least, most = (share * height * width for share in self.area)
        highest = min(height, int((width + 0.5 - 1e-7) / aspect), round(math.sqrt(most / aspect)))
        lowest = min(round(math.sqrt(least / aspect)), highest)
        h = whole_number(lowest, highest, generator)
        w = round(h * aspect)
        if w * h < least:  # by rounding
            h, w = h + 1, round((h + 1) * aspect)
        if w * h > most:
            h, w = h - 1, round((h - 1) * aspect)
        if not (least <= w * h <= most and 0 < w <= width and 0 < h <= height):
            return None
        top, left = whole_number(0, height - h, generator), whole_number(0, width - w, generator)
        return top, left, h, w
