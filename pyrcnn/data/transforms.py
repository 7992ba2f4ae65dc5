"""Augmentation: picture and :class:`~pyrcnn.Targets` change together.

A transform is a frozen dataclass called as ``transform(picture, targets, generator)`` with a [3, H, W] uint8 picture;
it returns the changed pair and never writes into its input. Everything random comes from ``generator``, so that one
seed gives the same pictures in any process. A box that a crop cuts keeps its visible part when that part is at least
``min_visible`` of it and goes otherwise; keypoints outside the picture become unlabelled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import require
from ..structures import Targets

Pair = tuple[Tensor, Targets]
COCO_FLIP_PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
_GREY = 114  # what fills the uncovered part of a picture: about the mean of photographs


class Transform(Protocol):
    """What the loader calls on every item."""

    def __call__(self, picture: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """The changed picture and targets."""
        ...


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """One number between ``low`` and ``high``."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def apply(transforms: Sequence[Transform], picture: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
    """All ``transforms`` in order."""
    for transform in transforms:
        picture, targets = transform(picture, targets, generator)
    return picture, targets


def flip_pairs(joints: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """The keypoints that swap places in a mirror: (index of ``left_x``, index of ``right_x``) by their names."""
    index = {name: i for i, name in enumerate(joints)}
    return tuple((i, index[mirrored]) for name, i in index.items()
                 if name.startswith("left_") and (mirrored := "right_" + name[5:]) in index)  # fmt: skip


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left and right with ``probability``; ``pairs`` of keypoints swap (None: COCO's, for 17 keypoints)."""

    probability: float = 0.5
    pairs: tuple[tuple[int, int], ...] | None = None

    def __call__(self, picture: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """The mirrored pair, or the given one."""
        if torch.rand((), generator=generator).item() >= self.probability:
            return picture, targets
        width = picture.shape[2]
        x1, y1, x2, y2 = targets.boxes.unbind(1)
        keypoints = targets.keypoints
        if keypoints is not None:
            keypoints = keypoints[:, self._mirrored(keypoints.shape[1])]
            x, y, seen = keypoints.unbind(2)
            keypoints = torch.stack([torch.where(seen > 0, width - x, x), y, seen], dim=2)
        boxes = torch.stack([width - x2, y1, width - x1, y2], dim=1)
        return picture.flip(2), replace(targets, boxes=boxes, keypoints=keypoints)

    def _mirrored(self, joints: int) -> list[int]:
        require(
            self.pairs is not None or joints == 17, f"pairs must name the left-right pairs of the {joints} keypoints"
        )
        order = list(range(joints))
        for left, right in COCO_FLIP_PAIRS if self.pairs is None else self.pairs:
            order[left], order[right] = right, left
        return order


@dataclass(frozen=True)
class VerticalFlip:
    """Turn upside down with ``probability``: for pictures without an up, as from a microscope or the air."""

    probability: float = 0.5

    def __call__(self, picture: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """The turned pair, or the given one."""
        if torch.rand((), generator=generator).item() >= self.probability:
            return picture, targets
        height = picture.shape[1]
        x1, y1, x2, y2 = targets.boxes.unbind(1)
        keypoints = targets.keypoints
        if keypoints is not None:
            x, y, seen = keypoints.unbind(2)
            keypoints = torch.stack([x, torch.where(seen > 0, height - y, y), seen], dim=2)
        return picture.flip(1), replace(targets, boxes=torch.stack([x1, height - y2, x2, height - y1], dim=1),
                                        keypoints=keypoints)  # fmt: skip


@dataclass(frozen=True)
class Resize:
    """Resize, keeping the aspect, so that the short side is ``short`` and the long side at most ``long``."""

    short: int
    long: int

    def __call__(self, picture: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """The resized pair."""
        height, width = picture.shape[1:]
        scale = min(self.short / min(height, width), self.long / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        return _resized(picture, size), _moved(targets, (size[1] / width, size[0] / height), (0.0, 0.0))


@dataclass(frozen=True)
class Pad:
    """Pad at the bottom and right with ``fill`` until both sides divide by ``multiple``."""

    multiple: int = 32
    fill: int = _GREY

    def __call__(self, picture: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """The padded pair."""
        height, width = picture.shape[1:]
        return functional.pad(
            picture, (0, -width % self.multiple, 0, -height % self.multiple), value=self.fill
        ), targets


@dataclass(frozen=True)
class RandomCrop:
    """With ``probability`` cut out a part whose sides are ``low`` to ``high`` of the picture's."""

    low: float = 0.5
    high: float = 1.0
    probability: float = 0.5
    min_visible: float = 0.3

    def __call__(self, picture: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """The part and what is in it, or the given pair."""
        if torch.rand((), generator=generator).item() >= self.probability:
            return picture, targets
        height, width = picture.shape[1:]
        h = max(1, round(height * uniform(self.low, self.high, generator)))
        w = max(1, round(width * uniform(self.low, self.high, generator)))
        top, left = (int(uniform(0, room + 1, generator)) for room in (height - h, width - w))
        moved = _moved(targets, (1.0, 1.0), (-left, -top))
        return picture[:, top : top + h, left : left + w], _clipped(moved, (h, w), self.min_visible)


@dataclass(frozen=True)
class ScaleJitter:
    """Zoom by a factor between ``low`` and ``high`` (uniform in its logarithm) and keep the picture's size.

    Above 1 a part is cut out and enlarged, below 1 the picture shrinks and lies somewhere on a canvas of ``fill``:
    crop, resize and pad in one resampling. ``size`` (height, width) is the result's size instead, with the picture
    fitted into it, which saves the model its own resize.
    """

    low: float = 0.7
    high: float = 1.4
    size: tuple[int, int] | None = None
    fill: int = _GREY
    min_visible: float = 0.3

    def __call__(self, picture: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """The zoomed pair."""
        height, width = picture.shape[1:]
        out_h, out_w = self.size or (height, width)
        scale = math.exp(uniform(math.log(self.low), math.log(self.high), generator))
        scale *= min(out_h / height, out_w / width)  # output pixels per input pixel
        h, w = (min(side, max(1, round(out / scale))) for side, out in ((height, out_h), (width, out_w)))
        new_h, new_w = (min(out, max(1, round(part * scale))) for part, out in ((h, out_h), (w, out_w)))
        top, left = (int(uniform(0, room + 1, generator)) for room in (height - h, width - w))
        down, right = (int(uniform(0, room + 1, generator)) for room in (out_h - new_h, out_w - new_w))
        part = _resized(picture[:, top : top + h, left : left + w], (new_h, new_w))
        factor = (new_w / w, new_h / h)
        moved = _moved(targets, factor, (right - left * factor[0], down - top * factor[1]))
        if (new_h, new_w) != (out_h, out_w):
            canvas = picture.new_full((3, out_h, out_w), self.fill)
            canvas[:, down : down + new_h, right : right + new_w] = part
            part = canvas
        return part, _clipped(moved, (out_h, out_w), self.min_visible)


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast and saturation, each by a factor of up to 1 ± its amount.

    The three are linear in the colours, so they are one 3x3 matrix and one offset per picture.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __call__(self, picture: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """The recoloured picture with its targets."""
        amounts = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = (1 + uniform(-amount, amount, generator) for amount in amounts)
        luma = torch.tensor([0.299, 0.587, 0.114])
        colours = picture.flatten(1).float()  # [3, H * W]
        mean = (luma * colours.mean(dim=1)).sum() * brightness
        matrix = saturation * torch.eye(3) + (1 - saturation) * luma.expand(3, 3)
        changed = torch.addmm(((1 - contrast) * mean).expand(3, 1), matrix * (brightness * contrast), colours)
        return changed.round_().clamp_(0, 255).to(torch.uint8).view_as(picture), targets


def _resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    if picture.shape[1:] == size:
        return picture
    return functional.interpolate(picture[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def _moved(targets: Targets, scale: tuple[float, float], shift: tuple[float, float]) -> Targets:
    """Scale by (x, y), then shift by (x, y)."""
    factor, offset = torch.tensor(scale), torch.tensor(shift)
    keypoints = targets.keypoints
    if keypoints is not None:
        seen = keypoints[..., 2:]
        keypoints = torch.cat([torch.where(seen > 0, keypoints[..., :2] * factor + offset, 0.0), seen], dim=-1)
    return replace(targets, boxes=targets.boxes * factor.repeat(2) + offset.repeat(2), keypoints=keypoints)


def _clipped(targets: Targets, size: tuple[int, int], min_visible: float) -> Targets:
    """Boxes cut at the picture's border; those with too little left go, crowds stay while anything is left."""
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
        keypoints = torch.where(inside, keypoints, 0.0)[keep]
    return Targets(boxes[keep], targets.labels[keep], keypoints, None if targets.crowd is None else targets.crowd[keep])
