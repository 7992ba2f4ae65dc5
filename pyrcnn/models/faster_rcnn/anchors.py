"""The anchors of one cell, by the rules of four code bases: boxes x1 y1 x2 y2 around the cell's origin."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def torchvision_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors [A, 4], size fastest, corners rounded to whole pixels."""
    ratio = torch.tensor(ratios, dtype=torch.float32).sqrt()  # sqrt(h / w)
    side = torch.tensor(sizes, dtype=torch.float32)
    height = (ratio[:, None] * side).flatten()
    width = ((1 / ratio)[:, None] * side).flatten()
    return (torch.stack([-width, -height, width, height], 1) / 2).round()


def detectron2_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors [A, 4], ratio fastest, not rounded."""
    shapes = [(math.sqrt(size**2 / ratio), ratio) for size in sizes for ratio in ratios]  # width, height / width
    return torch.tensor([(-w / 2, -r * w / 2, w / 2, r * w / 2) for w, r in shapes])


def paper_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors [A, 4], size fastest, as the authors' code makes them: a rounded 16×16 cell, scaled.

    Their x2 and y2 are the last pixel of a box, ours are larger by 1; widths and decoded boxes are equal. The cell's
    centre is 7.5 in their coordinates and 8 in continuous ones.
    """
    shapes = []
    for ratio in ratios:
        width = round(math.sqrt(16 * 16 / ratio))
        height = round(width * ratio)
        shapes += [(width * size / 16, height * size / 16) for size in sizes]
    return torch.tensor([(8 - w / 2, 8 - h / 2, 8 + w / 2, 8 + h / 2) for w, h in shapes])


def tensorflow_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors [A, 4], size fastest, not rounded; ``ratios`` are width / height."""
    shapes = [(size * math.sqrt(ratio), size / math.sqrt(ratio)) for ratio in ratios for size in sizes]
    return torch.tensor([(-w / 2, -h / 2, w / 2, h / 2) for w, h in shapes])


ANCHORS: dict[str, Callable[[Sequence[float], Sequence[float]], Tensor]] = {
    "torchvision": torchvision_anchors,
    "detectron2": detectron2_anchors,
    "paper": paper_anchors,
    "tensorflow": tensorflow_anchors,
}
