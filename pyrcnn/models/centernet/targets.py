"""CenterNet's targets (Gaussian heat maps; sizes, offsets and joints at a few cells of each object) and losses.

Coordinates are in cells, the pixels of the output. All functions work on whole batches; padded objects have weight 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...memory import upload
from ...ops import draw_gaussians
from ...structures import Targets
from ..training import Term, Truth, pad_truth
from .decode import gather_cells
from .heads import joint_deviations

MIN_IOU = 0.7  # IoU that a box keeps when it is shifted by the radius
NEIGHBOURS = 3  # joints are trained at all cells within this radius of the centre and of the joint
WEIGHTS = {
    "heatmap": 1.0, "size": 0.1, "offset": 1.0,
    "keypoint_heatmap": 1.0, "keypoint_regression": 0.1, "keypoint_offset": 1.0,
}  # fmt: skip


class Objects(NamedTuple):
    """Ground truth of a batch in cells, padded to the largest number of objects.

    ``boxes`` [N, G, 4], ``labels`` [N, G], ``weights`` [N, G] (0: padding), ``keypoints`` [N, G, J, 3] (x, y,
    visibility).
    """

    boxes: Tensor
    labels: Tensor
    weights: Tensor
    keypoints: Tensor


def objects_of(truth: Truth, scales: Tensor, stride: int) -> Objects:
    """Ground truth in pixels of the images → in cells; ``scales`` [N, 2] (y, x): network input per image."""
    scaled = truth.scaled(scales / stride)
    return Objects(scaled.boxes, scaled.labels, truth.real.to(scaled.boxes.dtype), scaled.keypoints)


def pad_targets(targets: Sequence[Targets], scales: Tensor, stride: int, num_classes: int, joints: int) -> Objects:
    """Deprecated: :func:`objects_of` of ``Detector.pad_targets(targets)``."""
    warnings.warn(
        "pad_targets is deprecated, use Detector.pad_targets and objects_of", DeprecationWarning, stacklevel=2
    )
    return objects_of(pad_truth(targets, num_classes, joints), scales, stride)


# ---- heat maps -------------------------------------------------------------------------------------------------------


def gaussian_sigma(height: Tensor, width: Tensor, min_iou: float = MIN_IOU) -> Tensor:
    """Standard deviation of the Gaussian for a box of this size in cells: about a third of its radius.

    The radius is the largest shift that keeps an IoU of ``min_iou`` (Law and Deng 2018, CornerNet). The roots of its
    three quadratics are halved, not divided by twice the leading factor, because the published models were trained so.
    """

    def root(a: float, b: Tensor, c: Tensor) -> Tensor:
        return (-b + (b * b - 4 * a * c).clamp(min=0).sqrt()) / 2

    total, area = height + width, height * width
    radius = torch.minimum(
        torch.minimum(
            root(1, -total, area * ((1 - min_iou) / (1 + min_iou))),
            root(4, -2 * total, (1 - min_iou) * area),
        ),
        root(4 * min_iou, 2 * min_iou * total, (min_iou - 1) * area),
    )
    return (2 * radius.clamp(min=0).floor() + 1) / 6


def constant(values: tuple, device: torch.device) -> Tensor:
    """``values`` in float32 on ``device``, without a wait of the host."""
    return upload(torch.tensor(values, dtype=torch.float32), device)


def valid_cells(sizes: Tensor, height: int, width: int, stride: int) -> Tensor:
    """1 where a cell touches the unpadded image, else 0: [N, 1, H, W]; ``sizes`` [N, 2] (h, w) in input pixels."""
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


def _inside(cells: Tensor, height: int, width: int) -> Tensor:
    x, y = cells.unbind(-1)
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


# ---- boxes -----------------------------------------------------------------------------------------------------------


class BoxTargets(NamedTuple):
    """``heatmap`` [N, C, H, W], and the targets at ``cells`` [N, G, 2] (x, y).

    ``size`` and ``offset`` [N, G, 2] (y first), ``weights`` [N, G].
    """

    heatmap: Tensor
    cells: Tensor
    size: Tensor
    offset: Tensor
    weights: Tensor


def box_targets(objects: Objects, num_classes: int, height: int, width: int) -> BoxTargets:
    """A peak at every centre, with the box's size and the fraction of its centre. Centres off the map are ignored."""
    low, high = objects.boxes[..., :2], objects.boxes[..., 2:]
    centre, extent = (low + high) / 2, high - low
    cells = centre.floor()
    inside = _inside(cells, height, width)
    weights = objects.weights * inside
    cells = torch.where(inside[..., None], cells, 0.0)
    sigma = gaussian_sigma(extent[..., 1], extent[..., 0])
    heatmap = draw_gaussians((len(cells), num_classes, height, width), cells, sigma, objects.labels, weights)
    return BoxTargets(heatmap, cells.long(), extent.flip(-1), (centre - cells).flip(-1), weights)


def box_losses(maps: dict[str, Tensor], targets: BoxTargets, valid: Tensor) -> dict[str, Term]:
    """The three losses of one stack, weighted, per object: ``heatmap``, ``size``, ``offset``."""
    count = targets.weights.count_nonzero()
    xs, ys = targets.cells.unbind(-1)
    losses = {"heatmap": (focal_loss(maps["heatmap"], targets.heatmap) * valid).sum()}
    for name, wanted in (("size", targets.size), ("offset", targets.offset)):
        error = F.l1_loss(gather_cells(maps[name], ys, xs), wanted, reduction="none").sum(-1)
        losses[name] = (error * targets.weights).sum()
    return {name: Term(loss * WEIGHTS[name], count) for name, loss in losses.items()}


# ---- joints ----------------------------------------------------------------------------------------------------------


class JointTargets(NamedTuple):
    """Targets of the keypoint heads, at P cells around each centre and each joint.

    ``heatmap`` and ``valid`` are [N, J, H, W] (0: ignore the cell); ``labelled`` is the number of labelled joints.
    ``regression_cells`` and ``offset_cells`` [N, J, G, P] are flat indices into the map, with the targets
    ``regression`` and ``offset`` [N, J, G, P, 2] (y, x) and their ``…_weights`` [N, J, G, P].
    """

    heatmap: Tensor
    valid: Tensor
    labelled: Tensor
    regression_cells: Tensor
    regression: Tensor
    regression_weights: Tensor
    offset_cells: Tensor
    offset: Tensor
    offset_weights: Tensor


def neighbours(radius: int, device: torch.device) -> Tensor:
    """The cells within ``radius`` of the origin: [P, 2] (x, y), 29 for radius 3."""
    line = range(-radius, radius + 1)
    return constant(tuple((x, y) for y in line for x in line if x**2 + y**2 <= radius**2), device)


def joint_targets(objects: Objects, person: int, height: int, width: int, radius: int = NEIGHBOURS) -> JointTargets:
    """Targets of the keypoint heads, for the objects of class ``person``."""
    points, visibility = objects.keypoints[..., :2], objects.keypoints[..., 2]
    count, most, joints = visibility.shape
    weights = ((visibility > 0) & (objects.labels == person)[..., None]) * objects.weights[..., None]  # [N, G, J]
    low, high = objects.boxes[..., :2], objects.boxes[..., 2:]
    sigma = gaussian_sigma(high[..., 1] - low[..., 1], high[..., 0] - low[..., 0])[..., None]
    sigma = sigma * constant(joint_deviations(joints), sigma.device)

    cells = points.floor()
    channels = torch.arange(joints, device=cells.device).expand(count, most, joints)
    flat = (count, most * joints)
    heatmap = draw_gaussians(
        (count, joints, height, width),
        cells.reshape(*flat, 2),
        sigma.reshape(flat),
        channels.reshape(flat),
        weights.reshape(flat),
    )
    targets = points.transpose(1, 2)[..., None, :]  # [N, J, G, 1, 2]
    weights = weights.transpose(1, 2)
    ring = neighbours(radius, cells.device)
    near_joint = targets.floor() + ring
    near_centre = ((low + high) / 2).floor()[:, None, :, None] + ring
    regression = _at(near_centre, targets, weights, height, width)
    offset = _at(near_joint, targets, weights, height, width)
    valid = _outside_unlabelled(objects.boxes, weights, height, width)
    return JointTargets(heatmap, valid, weights.sum(), *regression, *offset)


def _at(cells: Tensor, points: Tensor, weights: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Flat indices, displacement to the points (y, x) and weights at ``cells``; off the map both are 0."""
    inside = _inside(cells, height, width)
    index = torch.where(inside, cells[..., 1] * width + cells[..., 0], 0.0).long()
    displacement = (points - cells).flip(-1)
    return index.expand(displacement.shape[:-1]), displacement, weights[..., None] * inside


def _outside_unlabelled(boxes: Tensor, weights: Tensor, height: int, width: int) -> Tensor:
    """0 inside every box whose joint is not labelled, else 1: [N, J, H, W]; ``weights`` [N, J, G]."""
    ys = torch.arange(height, device=boxes.device)
    xs = torch.arange(width, device=boxes.device)
    rows = (ys >= boxes[..., 1:2]) & (ys < boxes[..., 3:])  # [N, G, H]
    columns = (xs >= boxes[..., :1]) & (xs < boxes[..., 2:3])  # [N, G, W]
    missing = (weights < 1e-3).to(boxes.dtype)
    hidden = torch.einsum("njg,ngh,ngw->njhw", missing, rows.to(boxes.dtype), columns.to(boxes.dtype))
    return (hidden == 0).to(boxes.dtype)


def joint_losses(maps: dict[str, Tensor], targets: JointTargets, valid: Tensor) -> dict[str, Term]:
    """The three keypoint losses of one stack, weighted: ``keypoint_heatmap``, ``…_regression``, ``…_offset``."""
    focal = focal_loss(maps["keypoint_heatmap"], targets.heatmap) * (targets.valid * valid)
    losses = {"keypoint_heatmap": Term(focal.sum() * WEIGHTS["keypoint_heatmap"], targets.labelled)}
    for name, cells, wanted, weights in (
        ("keypoint_regression", targets.regression_cells, targets.regression, targets.regression_weights),
        ("keypoint_offset", targets.offset_cells, targets.offset, targets.offset_weights),
    ):
        pairs = maps[name].unflatten(1, (-1, 2)).flatten(3)  # [N, J, 2, H * W]
        index = cells.flatten(2)[:, :, None].expand(-1, -1, 2, -1)
        found = pairs.gather(3, index).transpose(2, 3).reshape(wanted.shape)
        error = F.l1_loss(found, wanted, reduction="none").sum(-1)
        losses[name] = Term((error * weights).sum() * WEIGHTS[name], weights.sum())
    return losses
