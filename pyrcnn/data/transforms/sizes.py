"""Transforms that change an image's size or the scale of its objects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import require
from ...structures import Targets
from .base import (
    GREY,
    Pair,
    check_probability,
    check_range,
    clip_to_image,
    cut_window,
    resize,
    resize_image,
    scale_and_shift,
    uniform,
    whole_number,
)


@dataclass(frozen=True)
class Resize:
    """Resize, keeping the aspect ratio, to a short side of ``short`` pixels and a long side of at most ``long``.

    Args:
        short: of the short side, in pixels.
        long: the most of the long side, in pixels.

    Raises:
        pyrcnn.InputError: unless 0 < short <= long.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> objects = Targets(torch.tensor([[0.0, 0.0, 32.0, 48.0]]), torch.tensor([0]))
        >>> Resize(24, 64)(image, objects, torch.Generator())[1].boxes
        tensor([[ 0.,  0., 16., 24.]])
    """

    short: int
    long: int

    def __post_init__(self) -> None:
        check_range(self.short, self.long, names="short and long")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the resized image and targets."""
        return resize(image, targets, fitting_size(image, self.short, self.long))


def fitting_size(image: Tensor, short: int, long: int) -> tuple[int, int]:
    """Return the height and width with a short side of ``short`` pixels, unless the long side would exceed ``long``."""
    height, width = image.shape[1:]
    scale = min(short / min(height, width), long / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True)
class ShortSide:
    """Resize to a short side that is drawn from ``sides``, and a long side of at most ``long`` (multi-scale training).

    With ``between``, ``sides`` are the first and the last of all whole numbers to draw from. The default is
    detectron2's. In training, the model does not resize the image again.

    Args:
        sides: lengths of the short side, in pixels.
        long: the most of the long side, in pixels.
        between: draw from all whole numbers from the first of two ``sides`` to the second.

    Raises:
        pyrcnn.InputError: for sides that are not positive, or not in order with ``between``.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> objects = Targets(torch.tensor([[0.0, 0.0, 32.0, 48.0]]), torch.tensor([0]))
        >>> ShortSide((24,))(image, objects, torch.Generator())[0].shape
        torch.Size([3, 24, 32])
    """

    sides: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    long: int = 1333
    between: bool = False
    sets_size: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(len(self.sides) > 0 and min(self.sides) > 0, f"sides must be positive, got {self.sides}")
        require(self.long > 0, f"long must be positive, got {self.long}")
        ordered = len(self.sides) == 2 and self.sides[0] <= self.sides[1]
        require(ordered or not self.between, f"sides must be the first and the last, got {self.sides}")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the resized image and targets."""
        if self.between:
            short = whole_number(self.sides[0], self.sides[-1], generator)
        else:
            short = self.sides[whole_number(0, len(self.sides) - 1, generator)]
        return resize(image, targets, fitting_size(image, short, self.long))


@dataclass(frozen=True)
class Pad:
    """Pad at the bottom and right with ``fill`` until both sides are divisible by ``multiple``.

    Args:
        multiple: what both sides are multiples of afterwards, in pixels.
        fill: the value of the new pixels, 0 to 255.

    Raises:
        pyrcnn.InputError: unless ``multiple`` is positive.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> objects = Targets(torch.tensor([[0.0, 0.0, 32.0, 48.0]]), torch.tensor([0]))
        >>> Pad(32)(image, objects, torch.Generator())[0].shape
        torch.Size([3, 64, 64])
    """

    multiple: int = 32
    fill: int = GREY

    def __post_init__(self) -> None:
        require(self.multiple > 0, f"multiple must be positive, got {self.multiple}")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the padded image and the targets."""
        height, width = image.shape[1:]
        return functional.pad(image, (0, -width % self.multiple, 0, -height % self.multiple), value=self.fill), targets


@dataclass(frozen=True)
class RandomPad:
    """Enlarge the height and the width by 0 to ``most`` pixels each, with the image at a random place.

    The default is that of the TensorFlow zoo's CenterNet at 512 pixels.

    Args:
        most: the most pixels that a side grows by.
        fill: the value of the new pixels, 0 to 255.

    Raises:
        pyrcnn.InputError: if ``most`` is negative.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> objects = Targets(torch.tensor([[0.0, 0.0, 32.0, 48.0]]), torch.tensor([0]))
        >>> RandomPad(most=0)(image, objects, torch.Generator())[0].shape
        torch.Size([3, 48, 64])
    """

    most: int = 199
    fill: int = 0

    def __post_init__(self) -> None:
        require(self.most >= 0, f"most must be at least 0, got {self.most}")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the padded image and the moved targets."""
        down, right = (whole_number(0, self.most, generator) for _ in range(2))
        top, left = (whole_number(0, room, generator) for room in (down, right))
        padded = functional.pad(image, (left, right - left, top, down - top), value=self.fill)
        return padded, scale_and_shift(targets, (1.0, 1.0), (left, top))


@dataclass(frozen=True)
class LargeScaleJitter:
    """Resize by a random factor, then cut or pad to ``size`` (height, width) (Ghiasi et al. 2021).

    The factor is uniform between ``low`` and ``high``; at 1, the image just fits into ``size``. An image that is larger
    is cut at a random place; a smaller one is padded with ``fill`` at the bottom and right. In training, the model does
    not resize the image again.

    Args:
        low: the smallest factor.
        high: the largest factor.
        size: (height, width) of the result, in pixels.
        fill: the value of padding, 0 to 255.
        min_visible: objects that keep less than this share of their area are removed, 0 to 1.

    Raises:
        pyrcnn.InputError: for values out of range.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> objects = Targets(torch.tensor([[0.0, 0.0, 32.0, 48.0]]), torch.tensor([0]))
        >>> LargeScaleJitter(size=(32, 32))(image, objects, torch.Generator())[0].shape
        torch.Size([3, 32, 32])
    """

    low: float = 0.1
    high: float = 2.0
    size: tuple[int, int] = (1024, 1024)
    fill: int = 128
    min_visible: float = 0.0
    sets_size: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range(self.low, self.high)
        require(min(self.size) > 0, f"size must be positive, got {self.size}")
        check_probability(self.min_visible, "min_visible")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the image of ``size`` and the targets in it."""
        height, width = image.shape[1:]
        scale = uniform(self.low, self.high, generator) * min(self.size[0] / height, self.size[1] / width)
        scaled = (max(1, round(height * scale)), max(1, round(width * scale)))
        rooms = (max(0, new - out) for new, out in zip(scaled, self.size, strict=True))
        top, left = (whole_number(0, room, generator) for room in rooms)
        return cut_window(*resize(image, targets, scaled), (top, left, *self.size), self.min_visible, self.fill)


@dataclass(frozen=True)
class ScaleJitter:
    """Zoom by a random factor between ``low`` and ``high``, uniform in its logarithm; the image's size stays the same.

    Above 1, a part is cut out and enlarged. Below 1, the image shrinks and is placed at random on a canvas of ``fill``.
    Crop, resize and padding are one resampling. With ``size`` (height, width), the result has that size instead and the
    image is scaled to fit into it, which makes the model's own resize unnecessary.

    Args:
        low: the smallest factor.
        high: the largest factor.
        size: (height, width) of the result, in pixels; None for that of the image.
        fill: the value of uncovered pixels, 0 to 255.
        min_visible: objects that keep less than this share of their area are removed, 0 to 1.

    Raises:
        pyrcnn.InputError: for values out of range.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> objects = Targets(torch.tensor([[0.0, 0.0, 32.0, 48.0]]), torch.tensor([0]))
        >>> ScaleJitter(0.5, 2.0, size=(32, 32))(image, objects, torch.Generator())[0].shape
        torch.Size([3, 32, 32])
    """

    low: float = 0.7
    high: float = 1.4
    size: tuple[int, int] | None = None
    fill: int = GREY
    min_visible: float = 0.3

    def __post_init__(self) -> None:
        check_range(self.low, self.high)
        require(self.size is None or min(self.size) > 0, f"size must be positive, got {self.size}")
        check_probability(self.min_visible, "min_visible")

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the zoomed image and targets."""
        height, width = image.shape[1:]
        out_h, out_w = self.size or (height, width)
        scale = math.exp(uniform(math.log(self.low), math.log(self.high), generator))
        scale *= min(out_h / height, out_w / width)  # output pixels per input pixel
        h, w = (min(side, max(1, round(out / scale))) for side, out in ((height, out_h), (width, out_w)))
        new_h, new_w = (min(out, max(1, round(part * scale))) for part, out in ((h, out_h), (w, out_w)))
        top, left = (int(uniform(0, room + 1, generator)) for room in (height - h, width - w))
        down, right = (int(uniform(0, room + 1, generator)) for room in (out_h - new_h, out_w - new_w))
        part = resize_image(image[:, top : top + h, left : left + w], (new_h, new_w))
        factor = (new_w / w, new_h / h)
        moved = scale_and_shift(targets, factor, (right - left * factor[0], down - top * factor[1]))
        if (new_h, new_w) != (out_h, out_w):
            canvas = image.new_full((3, out_h, out_w), self.fill)
            canvas[:, down : down + new_h, right : right + new_w] = part
            part = canvas
        return part, clip_to_image(moved, (out_h, out_w), self.min_visible)
