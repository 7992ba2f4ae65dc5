"""What CenterNet learns: Gaussian heat maps and, at the centres, sizes and offsets; and the losses on them.

Everything is in cells (the output's pixels) and vectorised over images and objects; padded objects have weight 0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...structures import Targets
from .decode import gather_cells

MIN_IOU = 0.7  # a box shifted by the radius still overlaps the object this much
WEIGHTS = {
    "heatmap": 1.0, "size": 0.1, "offset": 1.0,
    "keypoint_heatmap": 1.0, "keypoint_regression": 0.1, "keypoint_offset": 1.0,
}  # fmt: skip


class Objects(NamedTuple):
    """Ground truth of a batch in cells: ``boxes`` [N, G, 4], ``labels`` [N, G], ``weights`` [N, G] (0: padding),

    ``keypoints`` [N, G, J, 3] (x, y, visibility) or None.
    """

    boxes: Tensor
    labels: Tensor
    weights: Tensor
    keypoints: Tensor | None


def pad_targets(targets: list[Targets], scales: Tensor, stride: int, joints: int = 0) -> Objects:
    """Ground truth in picture pixels → one batch in cells; ``scales`` [N, 2] (y, x). Crowd boxes are left out."""
    device, dtype = scales.device, scales.dtype
    kept = [t if t.crowd is None else _rows(t, ~t.crowd) for t in targets]
    most = max([len(t) for t in kept] + [1])
    boxes = torch.zeros(len(kept), most, 4, device=device, dtype=dtype)
    labels = torch.zeros(len(kept), most, device=device, dtype=torch.int64)
    weights = torch.zeros(len(kept), most, device=device, dtype=dtype)
    keypoints = torch.zeros(len(kept), most, joints, 3, device=device, dtype=dtype) if joints else None
    for n, t in enumerate(kept):
        boxes[n, : len(t)] = t.boxes.to(device, dtype)
        labels[n, : len(t)] = t.labels.to(device)
        weights[n, : len(t)] = 1
        if keypoints is not None and t.keypoints is not None:
            keypoints[n, : len(t)] = t.keypoints.to(device, dtype)
    factor = scales.flip(-1) / stride  # [N, 2] as x, y
    boxes *= factor.repeat(1, 2)[:, None]
    if keypoints is not None:
        keypoints[..., :2] *= factor[:, None, None]
    return Objects(boxes, labels, weights, keypoints)


def _rows(t: Targets, keep: Tensor) -> Targets:
    return Targets(t.boxes[keep], t.labels[keep], None if t.keypoints is None else t.keypoints[keep])


def gaussian_sigma(height: Tensor, width: Tensor, min_iou: float = MIN_IOU) -> Tensor:
    """Standard deviation of the Gaussian at a box of this size in cells: a third of the largest harmless shift.

    Of the three quadratics (Law and Deng 2018, CornerNet) the root is halved, not divided by twice the leading factor:
    that is what the published models were trained with.
    """

    def root(a: float, b: Tensor, c: Tensor) -> Tensor:
        return (-b + (b * b - 4 * a * c).sqrt()) / 2

    total, area = height + width, height * width
    radius = torch.minimum(
        torch.minimum(
            root(1, -total, area * ((1 - min_iou) / (1 + min_iou))),
            root(4, -2 * total, (1 - min_iou) * area),
        ),
        root(4 * min_iou, 2 * min_iou * total, (min_iou - 1) * area),
    )
    return (2 * radius.clamp(min=0).floor() + 1) / 6


def draw(shape: tuple[int, int, int, int], cells: Tensor, sigmas: Tensor, channels: Tensor, weights: Tensor) -> Tensor:
    """Gaussians of height 1 at ``cells`` [N, K, 2] (x, y) with ``sigmas`` [N, K] → [N, C, H, W], the maximum where they
    meet.

    ``channels`` [N, K] says in which map; ``weights`` [N, K] scale each.
    """
    count, maps, height, width = shape
    like = {"device": cells.device, "dtype": sigmas.dtype}
    scale = -0.5 / (sigmas * sigmas)
    ys = (torch.arange(height, **like) - cells[..., 1:]) ** 2  # [N, K, H]
    xs = (torch.arange(width, **like) - cells[..., :1]) ** 2  # [N, K, W]
    blobs = ((ys[..., :, None] + xs[..., None, :]) * scale[..., None, None]).exp() * weights[..., None, None]
    index = channels[..., None, None].expand_as(blobs)
    return sigmas.new_zeros(count, maps, height, width).scatter_reduce(1, index, blobs, "amax")


def valid_cells(sizes: Tensor, height: int, width: int, stride: int) -> Tensor:
    """1 where a cell touches the unpadded picture, else 0: [N, 1, H, W]; ``sizes`` [N, 2] (h, w) in input pixels."""
    limit = (sizes / stride).ceil()
    ys = torch.arange(height, device=sizes.device) < limit[:, :1]
    xs = torch.arange(width, device=sizes.device) < limit[:, 1:]
    return (ys[:, :, None] & xs[:, None, :])[:, None].float()


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """The focal loss per cell (Zhou et al. 2019, eq. 1; alpha 2, beta 4), on probabilities kept 1e-4 off 0 and 1."""
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    peak = -((1 - p) ** 2) * p.log()
    rest = -((1 - target) ** 4) * p**2 * (1 - p).log()
    return torch.where(target == 1, peak, rest)


class BoxTargets(NamedTuple):
    """``heatmap`` [N, C, H, W]; at ``cells`` [N, G, 2] (x, y): ``size``, ``offset`` [N, G, 2] (y first), ``weights`` [N, G]."""

    heatmap: Tensor
    cells: Tensor
    size: Tensor
    offset: Tensor
    weights: Tensor


def box_targets(objects: Objects, num_classes: int, height: int, width: int) -> BoxTargets:
    """Where the centres are and what to predict there."""
    low, high = objects.boxes[..., :2], objects.boxes[..., 2:]
    centre, extent = (low + high) / 2, high - low
    cells = centre.floor()
    limit = cells.new_tensor([width, height])
    inside = ((cells >= 0) & (cells < limit)).all(-1)
    weights = objects.weights * inside
    cells = torch.where(inside[..., None], cells, 0.0)
    sigma = gaussian_sigma(extent[..., 1], extent[..., 0])
    heatmap = draw((len(cells), num_classes, height, width), cells, sigma, objects.labels, weights)
    return BoxTargets(heatmap, cells.long(), extent.flip(-1), (centre - cells).flip(-1), weights)


def box_losses(maps: dict[str, Tensor], targets: BoxTargets, valid: Tensor) -> dict[str, Tensor]:
    """The three losses of one stack, weighted, per object: ``heatmap``, ``size``, ``offset``."""
    count = targets.weights.count_nonzero().clamp(min=1)
    xs, ys = targets.cells.unbind(-1)
    losses = {"heatmap": (focal_loss(maps["heatmap"], targets.heatmap) * valid).sum()}
    for name, wanted in (("size", targets.size), ("offset", targets.offset)):
        error = F.l1_loss(gather_cells(maps[name], ys, xs), wanted, reduction="none").sum(-1)
        losses[name] = (error * targets.weights).sum()
    return {name: loss * WEIGHTS[name] / count for name, loss in losses.items()}
