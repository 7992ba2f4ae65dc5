"""Augmentation: transforms that change an image and its :class:`~pyrcnn.Targets` together.

A transform is a frozen dataclass, called as ``transform(image, targets, generator)`` with a [3, H, W] uint8 image. It
returns the new (image, targets) and does not change its input. All random numbers come from ``generator``, so a seed
gives the same images in any process. A box that is cut by the image's border keeps its visible part if that is at least
``min_visible`` of its area; otherwise it is removed. Keypoints outside the image become unlabelled.

>>> image, targets = torch.zeros(3, 4, 8, dtype=torch.uint8), Targets(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([0]))
>>> image, targets = HorizontalFlip(probability=1.0)(image, targets, torch.Generator())
>>> targets.boxes
tensor([[6., 0., 8., 2.]])
"""

from __future__ import annotations

import math
import re
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
_GREY = 114  # fills the uncovered part of an image; about the mean of photographs


class Transform(Protocol):
    """The interface of a transform: called on every item of a data set."""

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the changed image and targets."""
        ...


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Return a random number between ``low`` and ``high``."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def apply(transforms: Sequence[Transform], image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
    """Apply ``transforms`` in order."""
    for transform in transforms:
        image, targets = transform(image, targets, generator)
    return image, targets


def flip_pairs(keypoint_names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the pairs of keypoints that swap in a mirror image: (index of the left one, index of the right one).

    A name is left if it has the word ``left`` or ``l`` (``left_eye``, ``eye_l``, ``LeftEye``, ``lefteye``), or a corner
    such as ``tl``; its pair has the same name with the other word.

    >>> flip_pairs(["nose", "left_eye", "right_eye"])
    ((1, 2),)
    >>> flip_pairs(["tl", "tr", "br", "bl"])
    ((0, 1), (3, 2))
    """
    index: dict[str, int] = {}
    for i, name in enumerate(keypoint_names):
        index.setdefault("_".join(_words(name)), i)
    pairs = []
    for name, i in index.items():
        for mirrored in _mirrored(name):
            if mirrored in index:
                pairs.append((i, index[mirrored]))
                break
    return tuple(pairs)


_MIRROR = {"left": "right", "l": "r", "tl": "tr", "bl": "br", "lt": "rt", "lb": "rb", "topleft": "topright",
           "bottomleft": "bottomright", "ul": "ur", "ll": "lr"}  # fmt: skip


def _words(name: str) -> list[str]:
    """``LeftEye``, ``left eye`` and ``left-eye`` → ``left``, ``eye``; ``lEye`` → ``l``, ``eye``."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return [word for word in re.split(r"[^a-z0-9]+", apart.lower()) if word]


def _mirrored(name: str) -> list[str]:
    """Return the names that the pair of a left keypoint may have."""
    words = name.split("_")
    found = ["_".join([*words[:i], _MIRROR[word], *words[i + 1 :]]) for i, word in enumerate(words) if word in _MIRROR]
    if not found and "left" in name:
        found = [name.replace("left", "right")]  # lefteye
    return found


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left and right with ``probability``. ``pairs`` of keypoints swap; None for the pairs of COCO's 17.

    In training, None stands for the pairs that the names of the data set's keypoints tell (:func:`flip_pairs`).
    """

    probability: float = 0.5
    pairs: tuple[tuple[int, int], ...] | None = None

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the mirrored image and targets, or the given ones."""
        if torch.rand((), generator=generator).item() >= self.probability:
            return image, targets
        width = image.shape[2]
        x1, y1, x2, y2 = targets.boxes.unbind(1)
        keypoints = targets.keypoints
        if keypoints is not None and bool((keypoints[..., 2] > 0).any()):  # else there is nothing to swap
            keypoints = keypoints[:, self._mirror_order(keypoints.shape[1])]
            x, y, seen = keypoints.unbind(2)
            keypoints = torch.stack([torch.where(seen > 0, width - x, x), y, seen], dim=2)
        boxes = torch.stack([width - x2, y1, width - x1, y2], dim=1)
        return image.flip(2), _moved(targets, boxes, keypoints)

    def _mirror_order(self, count: int) -> list[int]:
        require(
            self.pairs is not None or count == 17,
            f"pairs must be the left-right pairs of {count} keypoints, got None; data.flip_pairs(names) finds them",
        )
        order = list(range(count))
        for left, right in COCO_FLIP_PAIRS if self.pairs is None else self.pairs:
            order[left], order[right] = right, left
        return order


@dataclass(frozen=True)
class VerticalFlip:
    """Flip top and bottom with ``probability``: for images without a top, such as microscope or aerial images."""

    probability: float = 0.5

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the flipped image and targets, or the given ones."""
        if torch.rand((), generator=generator).item() >= self.probability:
            return image, targets
        height = image.shape[1]
        x1, y1, x2, y2 = targets.boxes.unbind(1)
        keypoints = targets.keypoints
        if keypoints is not None:
            x, y, seen = keypoints.unbind(2)
            keypoints = torch.stack([x, torch.where(seen > 0, height - y, y), seen], dim=2)
        return image.flip(1), _moved(targets, torch.stack([x1, height - y2, x2, height - y1], dim=1), keypoints)


@dataclass(frozen=True)
class Resize:
    """Resize, keeping the aspect ratio, to a short side of ``short`` pixels and a long side of at most ``long``."""

    short: int
    long: int

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the resized image and targets."""
        height, width = image.shape[1:]
        scale = min(self.short / min(height, width), self.long / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        return _resize(image, size), _scale_and_shift(targets, (size[1] / width, size[0] / height), (0.0, 0.0))


@dataclass(frozen=True)
class Pad:
    """Pad at the bottom and right with ``fill`` until both sides are divisible by ``multiple``."""

    multiple: int = 32
    fill: int = _GREY

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the padded image and the targets."""
        height, width = image.shape[1:]
        return functional.pad(image, (0, -width % self.multiple, 0, -height % self.multiple), value=self.fill), targets


@dataclass(frozen=True)
class RandomCrop:
    """With ``probability``, cut out a part whose sides are ``low`` to ``high`` times those of the image."""

    low: float = 0.5
    high: float = 1.0
    probability: float = 0.5
    min_visible: float = 0.3

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the part and the targets in it, or the given image and targets."""
        if torch.rand((), generator=generator).item() >= self.probability:
            return image, targets
        height, width = image.shape[1:]
        h = max(1, round(height * uniform(self.low, self.high, generator)))
        w = max(1, round(width * uniform(self.low, self.high, generator)))
        top, left = (int(uniform(0, room + 1, generator)) for room in (height - h, width - w))
        moved = _scale_and_shift(targets, (1.0, 1.0), (-left, -top))
        return image[:, top : top + h, left : left + w], _clip(moved, (h, w), self.min_visible)


@dataclass(frozen=True)
class ScaleJitter:
    """Zoom by a random factor between ``low`` and ``high``, uniform in its logarithm; the image's size stays the same.

    Above 1, a part is cut out and enlarged. Below 1, the image shrinks and is placed at random on a canvas of ``fill``.
    Crop, resize and padding are one resampling. With ``size`` (height, width), the result has that size instead and the
    image is scaled to fit into it, which makes the model's own resize unnecessary.
    """

    low: float = 0.7
    high: float = 1.4
    size: tuple[int, int] | None = None
    fill: int = _GREY
    min_visible: float = 0.3

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
        part = _resize(image[:, top : top + h, left : left + w], (new_h, new_w))
        factor = (new_w / w, new_h / h)
        moved = _scale_and_shift(targets, factor, (right - left * factor[0], down - top * factor[1]))
        if (new_h, new_w) != (out_h, out_w):
            canvas = image.new_full((3, out_h, out_w), self.fill)
            canvas[:, down : down + new_h, right : right + new_w] = part
            part = canvas
        return part, _clip(moved, (out_h, out_w), self.min_visible)


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast and saturation, each by a factor of up to 1 ± its amount.

    All three are linear in the colours, so together they are one 3x3 matrix and one offset per image.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the recoloured image and the targets."""
        amounts = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = (1 + uniform(-amount, amount, generator) for amount in amounts)
        luma = torch.tensor([0.299, 0.587, 0.114])
        colours = image.flatten(1).float()  # [3, H * W]
        mean = (luma * colours.mean(dim=1)).sum() * brightness
        matrix = saturation * torch.eye(3) + (1 - saturation) * luma.expand(3, 3)
        changed = torch.addmm(((1 - contrast) * mean).expand(3, 1), matrix * (brightness * contrast), colours)
        return changed.round_().clamp_(0, 255).to(torch.uint8).view_as(image), targets


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    if image.shape[1:] == size:
        return image
    batch = image[None]
    if image.shape[2] == 1:  # torch's kernel takes such an image for one with its channels last, and then fails
        batch = batch.contiguous(memory_format=torch.channels_last)
    return functional.interpolate(batch, size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def _scale_and_shift(targets: Targets, scale: tuple[float, float], shift: tuple[float, float]) -> Targets:
    """Multiply coordinates by ``scale`` (x, y), then add ``shift`` (x, y)."""
    factor, offset = torch.tensor(scale), torch.tensor(shift)
    keypoints = targets.keypoints
    if keypoints is not None:
        seen = keypoints[..., 2:]
        keypoints = torch.cat([torch.where(seen > 0, keypoints[..., :2] * factor + offset, 0.0), seen], dim=-1)
    return _moved(targets, targets.boxes * factor.repeat(2) + offset.repeat(2), keypoints)


def _moved(targets: Targets, boxes: Tensor, keypoints: Tensor | None, keep: Tensor | None = None) -> Targets:
    """Return targets with other coordinates, without the rows that are not to ``keep``.

    A box so thin that rounding leaves no side is removed too.
    """
    whole = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    keep = whole if keep is None else keep & whole
    if bool(keep.all()):
        return replace(targets, boxes=boxes, keypoints=keypoints)
    keypoints = None if keypoints is None else keypoints[keep]
    return Targets(boxes[keep], targets.labels[keep], keypoints, None if targets.crowd is None else targets.crowd[keep])


def _clip(targets: Targets, size: tuple[int, int], min_visible: float) -> Targets:
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
    return _moved(targets, boxes, keypoints, keep)
