"""What the transforms share: their interface, random numbers, and the geometry of images and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import InputError, require
from ...structures import Targets

Pair = tuple[Tensor, Targets]
GREY = 114  # fills the uncovered part of an image; about the mean of photographs


class Transform(Protocol):
    """The interface of a transform: called on every item of a data set.

    A transform that needs other items of the data set has their number in an attribute ``others``, and is called with a
    fourth argument: a list of so many pairs.

    Transforms of this package are frozen dataclasses of plain values. They raise :class:`pyrcnn.InputError` when they
    are made with a value out of range.

    Example:
        >>> class Brighter:
        ...     def __call__(self, image, targets, generator):
        ...         return (image.int() + 10).clamp(max=255).to(torch.uint8), targets
        >>> targets = Targets(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([0]))
        >>> apply([Brighter()], torch.zeros(3, 4, 4, dtype=torch.uint8), targets, torch.Generator())[0].max().item()
        10
    """

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the changed image and targets.

        Args:
            image: [3, H, W] uint8.
            targets: its objects, in pixels.
            generator: the only source of random numbers, so that runs can be resumed.
        """
        ...


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Return a random number between ``low`` and ``high``."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def whole_number(low: int, high: int, generator: torch.Generator) -> int:
    """Return a random whole number from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def apply(
    transforms: Sequence[Transform],
    image: Tensor,
    targets: Targets,
    generator: torch.Generator,
    draw: Callable[[], Pair] | None = None,
) -> Pair:
    """Apply ``transforms`` in order.

    ``draw`` returns another item of the data set, chosen at random, for the transforms with ``others``. The transforms
    before them are applied to that item too.
    """
    for position, transform in enumerate(transforms):
        mixing: Any = transform
        count = getattr(transform, "others", 0)
        if count:
            if draw is None:
                raise InputError(f"draw must return other items for {type(transform).__name__}, got None")
            found = [draw() for _ in range(count)]
            more = [apply(transforms[:position], *item, generator=generator, draw=draw) for item in found]
            image, targets = mixing(image, targets, generator, more)
        else:
            image, targets = transform(image, targets, generator)
    return image, targets


def check_probability(value: float, name: str = "probability") -> None:
    """Raise :class:`pyrcnn.InputError` unless ``value`` is from 0 to 1."""
    require(0 <= value <= 1, f"{name} must be in [0, 1], got {value}")


def check_range(low: float, high: float, least: float = 0.0, names: str = "low and high") -> None:
    """Raise :class:`pyrcnn.InputError` unless ``least < low <= high``."""
    require(least < low <= high, f"{names} must be above {least:g} and in this order, got {low} and {high}")


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``image`` resized to ``size`` (height, width), bilinear and smoothed where it shrinks."""
    if image.shape[1:] == size:
        return image
    batch = image[None]
    if image.shape[2] == 1:  # torch's kernel takes such an image for one with its channels last, and then fails
        batch = batch.contiguous(memory_format=torch.channels_last)
    return functional.interpolate(batch, size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def resize(image: Tensor, targets: Targets, size: tuple[int, int]) -> Pair:
    """Return image and targets resized to ``size`` (height, width)."""
    factor = (size[1] / image.shape[2], size[0] / image.shape[1])
    return resize_image(image, size), scale_and_shift(targets, factor, (0.0, 0.0))


def cut_window(
    image: Tensor, targets: Targets, window: tuple[int, int, int, int], min_visible: float, fill: int = 0
) -> Pair:
    """Return the part of the image in ``window`` (top, left, height, width), and the targets in it.

    The window may reach outside the image, where ``fill`` is. See :func:`clip_to_image` for ``min_visible``.
    """
    top, left, height, width = window
    y1, y2 = max(top, 0), min(top + height, image.shape[1])
    x1, x2 = max(left, 0), min(left + width, image.shape[2])
    part = image[:, y1:y2, x1:x2]
    margins = (x1 - left, left + width - x2, y1 - top, top + height - y2)
    if any(margins):
        part = functional.pad(part, margins, value=fill)
    return part, clip_to_image(scale_and_shift(targets, (1.0, 1.0), (-left, -top)), (height, width), min_visible)


def scale_and_shift(targets: Targets, scale: tuple[float, float], shift: tuple[float, float]) -> Targets:
    """Multiply coordinates by ``scale`` (x, y), then add ``shift`` (x, y)."""
    factor, offset = torch.tensor(scale), torch.tensor(shift)
    keypoints = targets.keypoints
    if keypoints is not None:
        seen = keypoints[..., 2:]
        keypoints = torch.cat([torch.where(seen > 0, keypoints[..., :2] * factor + offset, 0.0), seen], dim=-1)
    return with_boxes(targets, targets.boxes * factor.repeat(2) + offset.repeat(2), keypoints)


def with_boxes(targets: Targets, boxes: Tensor, keypoints: Tensor | None, keep: Tensor | None = None) -> Targets:
    """Return targets with other coordinates, without the rows that are not to ``keep``.

    A box so thin that rounding leaves no side is removed too.
    """
    whole = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    keep = whole if keep is None else keep & whole
    if bool(keep.all()):
        return replace(targets, boxes=boxes, keypoints=keypoints)
    keypoints = None if keypoints is None else keypoints[keep]
    return Targets(boxes[keep], targets.labels[keep], keypoints, None if targets.crowd is None else targets.crowd[keep])


def clip_to_image(targets: Targets, size: tuple[int, int], min_visible: float) -> Targets:
    """Clip boxes to the image; remove those with too little area left, and crowds only if none is left."""
    height, width = size
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    boxes = torch.minimum(targets.boxes.clamp(min=0), limit)
    whole, left = ((b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1) for b in (targets.boxes, boxes))
    keep = left >= min_visible * whole
    if targets.crowd is not None:
        keep |= targets.crowd
    keep &= (boxes[:, 2:] - boxes[:, :2] >= 1).all(dim=1)
    keypoints = targets.keypoints
    if keypoints is not None:
        xy = keypoints[..., :2]
        inside = ((xy >= 0) & (xy <= limit[:2])).all(dim=-1, keepdim=True)
        keypoints = torch.where(inside, keypoints, 0.0)
    return with_boxes(targets, boxes, keypoints, keep)


def join_targets(parts: Sequence[Targets]) -> Targets:
    """Return the objects of several targets as one."""
    joints = max((p.keypoints.shape[1] for p in parts if p.keypoints is not None), default=None)
    keypoints = crowd = None
    if joints is not None:
        keypoints = torch.cat(
            [p.boxes.new_zeros(len(p), joints, 3) if p.keypoints is None else p.keypoints for p in parts]
        )
    if any(p.crowd is not None for p in parts):
        crowd = torch.cat([torch.zeros(len(p), dtype=torch.bool) if p.crowd is None else p.crowd for p in parts])
    return Targets(torch.cat([p.boxes for p in parts]), torch.cat([p.labels for p in parts]), keypoints, crowd)
