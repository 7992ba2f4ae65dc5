"""Mirror images, and which keypoints swap in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import require
from ...structures import Targets
from .base import Pair, check_probability, with_boxes

COCO_FLIP_PAIRS = ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))


def flip_pairs(keypoint_names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the pairs of keypoints that swap in a mirror image: (index of the left one, index of the right one).

    A name is left if it has the word ``left`` or ``l`` (``left_eye``, ``eye_l``, ``LeftEye``, ``lefteye``), or a corner
    such as ``tl``; its pair has the same name with the other word.

    Args:
        keypoint_names: the names of the J keypoints, in order.

    Example:
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


def mirror_order(count: int, pairs: Sequence[tuple[int, int]] | None) -> list[int]:
    """Return the order of ``count`` keypoints in a mirror image; ``pairs`` None stands for those of COCO's 17."""
    require(
        pairs is not None or count == 17,
        f"pairs must be the left-right pairs of {count} keypoints, got None; data.flip_pairs(names) finds them",
    )
    order = list(range(count))
    for left, right in COCO_FLIP_PAIRS if pairs is None else pairs:
        require(min(left, right) >= 0 and max(left, right) < count,
                f"pairs must be of the {count} keypoints, from 0 to {count - 1}, got {(left, right)}")  # fmt: skip
        order[left], order[right] = right, left
    return order


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

    Args:
        probability: of a flip, 0 to 1.
        pairs: (left, right) indices of keypoints.

    Raises:
        pyrcnn.InputError: for a probability out of range, and when called, for pairs that do not fit the keypoints.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> objects = Targets(torch.tensor([[0.0, 0.0, 16.0, 48.0]]), torch.tensor([0]))
        >>> HorizontalFlip(1.0)(image, objects, torch.Generator())[1].boxes
        tensor([[48.,  0., 64., 48.]])
    """

    probability: float = 0.5
    pairs: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        check_probability(self.probability)

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the mirrored image and targets, or the given ones."""
        if torch.rand((), generator=generator).item() >= self.probability:
            return image, targets
        width = image.shape[2]
        x1, y1, x2, y2 = targets.boxes.unbind(1)
        keypoints = targets.keypoints
        if keypoints is not None and bool((keypoints[..., 2] > 0).any()):  # else there is nothing to swap
            keypoints = keypoints[:, mirror_order(keypoints.shape[1], self.pairs)]
            x, y, seen = keypoints.unbind(2)
            keypoints = torch.stack([torch.where(seen > 0, width - x, x), y, seen], dim=2)
        boxes = torch.stack([width - x2, y1, width - x1, y2], dim=1)
        return image.flip(2), with_boxes(targets, boxes, keypoints)


@dataclass(frozen=True)
class VerticalFlip:
    """Flip top and bottom with ``probability``: for images without a top, such as microscope or aerial images.

    Args:
        probability: of a flip, 0 to 1.

    Raises:
        pyrcnn.InputError: for a probability out of range.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> objects = Targets(torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([0]))
        >>> VerticalFlip(1.0)(image, objects, torch.Generator())[1].boxes
        tensor([[ 0., 32., 16., 48.]])
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability(self.probability)

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
        return image.flip(1), with_boxes(targets, torch.stack([x1, height - y2, x2, height - y1], dim=1), keypoints)
