"""Random inputs with the sizes and the overlaps that real detectors have."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = ((4, 200, 336), (8, 100, 168), (16, 50, 84), (32, 25, 42))  # stride, height, width at 800 x 1344
RPN_LEVELS = (*LEVELS, (64, 13, 21))


def rpn_boxes(
    count: int,
    device: torch.device,
    size: tuple[int, int] = (800, 1333),
    objects: int | None = None,
    spread: float = 0.25,
) -> tuple[Tensor, Tensor]:
    """Boxes in clusters around objects, as an RPN proposes them, and scores that are higher near the objects.

    ``objects``: None: 40 boxes each. ``spread``: of the boxes of an object, in parts of its sides.
    """
    g = torch.Generator().manual_seed(count)
    objects = objects or max(4, count // 40)
    centres = torch.rand(objects, 2, generator=g) * torch.tensor([size[1], size[0]])
    sides = torch.exp(torch.rand(objects, 2, generator=g) * 3 + 2.5)
    which = torch.randint(objects, (count,), generator=g)
    noise = torch.randn(count, 4, generator=g) * spread
    xy = centres[which] + noise[:, :2] * sides[which]
    wh = sides[which] * torch.exp(noise[:, 2:])
    scores = torch.rand(count, generator=g) * torch.exp(-noise.square().sum(1))
    boxes = torch.cat([xy - wh / 2, xy + wh / 2], 1).clamp_(min=0)
    boxes[:, 0::2].clamp_(max=size[1])
    boxes[:, 1::2].clamp_(max=size[0])
    return boxes.to(device), scores.to(device)


def crowded_boxes(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Near-copies around 24 objects, most of which are suppressed: images of few objects."""
    return rpn_boxes(count, device, objects=24, spread=0.06)


def random_boxes(count: int, device: torch.device, size: int = 1000) -> tuple[Tensor, Tensor]:
    """Boxes anywhere with sides up to 200 pixels, few of which suppress each other."""
    g = torch.Generator().manual_seed(count)
    xy = torch.rand(count, 2, generator=g) * size
    boxes = torch.cat([xy, xy + torch.rand(count, 2, generator=g) * 200], 1)
    return boxes.to(device), torch.rand(count, generator=g).to(device)


def rois(count: int, device: torch.device, images: int = 1, size: tuple[int, int] = (800, 1333)) -> Tensor:
    """Regions [K, 5] of all sizes."""
    g = torch.Generator().manual_seed(count)
    sides = torch.exp(torch.rand(count, 2, generator=g) * 3.4 + 3)
    xy = torch.rand(count, 2, generator=g) * torch.tensor([size[1], size[0]])
    corners = torch.cat([xy - sides / 2, xy + sides / 2], 1)
    corners[:, 0::2].clamp_(0, size[1])
    corners[:, 1::2].clamp_(0, size[0])
    batch = torch.randint(images, (count, 1), generator=g).float()
    return torch.cat([batch, corners], 1).to(device)


def features(
    channels: int,
    levels: tuple[tuple[int, int, int], ...],
    device: torch.device,
    dtype: torch.dtype,
    channels_last: bool,
) -> list[Tensor]:
    """One feature map per level, for one image."""
    g = torch.Generator().manual_seed(channels)
    maps = [torch.randn(1, channels, h, w, generator=g).to(device, dtype) for _, h, w in levels]
    return [m.contiguous(memory_format=torch.channels_last) for m in maps] if channels_last else maps


def rpn_outputs(
    device: torch.device, images: int = 1, anchors: int = 3
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Objectness, deltas and cell anchors of the five levels at 800 x 1344: 268k anchors."""
    g = torch.Generator().manual_seed(images)
    objectness, deltas, cells = [], [], []
    for stride, height, width in RPN_LEVELS:
        objectness.append((torch.randn(images, anchors, height, width, generator=g) * 2 - 3).to(device))
        deltas.append((torch.randn(images, 4 * anchors, height, width, generator=g) * 0.2).to(device))
        side = 8.0 * stride
        ratios = torch.tensor([0.5, 1.0, 2.0]).sqrt()
        wh = torch.stack([side / ratios, side * ratios], 1)
        cells.append(torch.cat([-wh / 2, wh / 2], 1).round().to(device))
    return objectness, deltas, cells


def class_scores(
    proposals: int, classes: int, device: torch.device, trained: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Class logits [P, C + 1] (background first), box deltas [P, 4 (C + 1)] and proposals [P, 4] of a RoI head."""
    g = torch.Generator().manual_seed(classes)
    logits = torch.randn(proposals, classes + 1, generator=g)
    logits[:, 0] += 4
    found = torch.rand(proposals, generator=g) < 0.25
    label = torch.randint(1, classes + 1, (proposals,), generator=g)
    logits[found, label[found]] += 8 if trained else 3
    deltas = torch.randn(proposals, 4 * (classes + 1), generator=g) * 0.5
    boxes, _ = rpn_boxes(proposals, device)
    return logits.to(device), deltas.to(device), boxes
