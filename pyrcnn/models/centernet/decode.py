"""Raw maps to detections: peaks of the class heat map, a box at each, and its joints (Zhou et al. 2019).

Everything has a fixed shape and stays on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...ops import decode_centers, heatmap_peaks
from ..outputs import PaddedDetections, PaddedPoses

PEAK_TOLERANCE = 1e-6  # a cell counts as its neighbourhood's maximum when this close to it, as in TF
CANDIDATES = 100  # joints looked at per channel of the keypoint heat map
MIN_JOINT_SCORE = 0.1  # a candidate counts from here on; a joint that found none gets this score
BOX_SCALE = 1.2  # candidates are looked for in the object's box, so much enlarged
SEARCH_SCALE = 0.3  # and no farther from the regressed joint than this part of its longer side
RANKINGS = ("distance", "score_over_distance", "score_over_scaled_distance")


def gather_cells(maps: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """[N, C, H, W] at cells ys, xs [N, k] → [N, k, C]."""
    index = (ys * maps.shape[3] + xs)[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, index).transpose(1, 2)


def decode_boxes(
    maps: dict[str, Tensor], sizes: Tensor, stride: int, k: int
) -> tuple[PaddedDetections, tuple[Tensor, Tensor]]:
    """The ``k`` best peaks with boxes in input pixels, clipped to the unpadded picture, and their cells ys, xs [N, k].

    ``sizes`` [N, 2] (h, w) of the unpadded pictures in the network's input.
    """
    scores, labels, ys, xs = heatmap_peaks(maps["heatmap"], k, tolerance=PEAK_TOLERANCE)
    boxes = decode_centers(ys, xs, maps["size"], maps["offset"], stride)  # [N, k, 4]
    limit = sizes.flip(-1).repeat(1, 2)[:, None].to(boxes.dtype)
    found = scores > 0
    boxes = torch.where(found[..., None], boxes.minimum(limit), 0.0)
    return PaddedDetections(boxes, scores, torch.where(found, labels, -1), found.sum(1)), (ys, xs)


def regressed_joints(regression: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """Joints [N, k, J, 2] (x, y) in cells, as the objects' own cells point to them; ``regression`` [N, 2J, H, W]."""
    displacement = gather_cells(regression, ys, xs).unflatten(-1, (-1, 2))  # (y, x)
    return torch.stack([ys, xs], -1)[:, :, None].add(displacement).flip(-1)


def joint_candidates(heatmap: Tensor, offset: Tensor, k: int = CANDIDATES) -> tuple[Tensor, Tensor]:
    """The ``k`` best peaks of every joint: positions [N, J, k, 2] (x, y) in cells and scores [N, J, k]."""
    scores, _, ys, xs = heatmap_peaks(heatmap, k, tolerance=PEAK_TOLERANCE, per_class=True)  # [N, J, k]
    pairs = offset.unflatten(1, (-1, 2)).flatten(3)  # [N, J, 2, H * W] (y, x)
    index = (ys * heatmap.shape[3] + xs)[:, :, None].expand(-1, -1, 2, -1)
    moved = torch.stack([ys, xs], 2) + pairs.gather(3, index)
    return moved.transpose(2, 3).flip(-1), scores


def match_joints(
    regressed: Tensor, candidates: Tensor, scores: Tensor, boxes: Tensor, ranking: str = "distance"
) -> tuple[Tensor, Tensor]:
    """Move each regressed joint [N, k, J, 2] onto its best candidate [N, J, C, 2], where one is near.

    ``boxes`` [N, k, 4]: candidates must lie in the object's box, enlarged. All in one unit. ``ranking``: "distance"
    takes the nearest, the others weigh the score by the distance. Returns joints [N, k, J, 2], scores [N, k, J].
    """
    distance = torch.linalg.vector_norm(regressed[:, :, :, None] - candidates[:, None], dim=-1)  # [N, k, J, C]
    usable = (scores >= MIN_JOINT_SCORE)[:, None]
    distance = torch.where(usable, distance, 1e5)
    centre, extent = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) * BOX_SCALE
    longest = extent.amax(-1)[:, :, None]  # [N, k, 1]
    if ranking == "distance":
        best = distance.argmin(-1)
    else:
        soft = 0.1 * longest[..., None] / BOX_SCALE if ranking == "score_over_scaled_distance" else 1.0
        best = torch.where(usable, scores[:, None] / (distance + soft), 0.0).argmax(-1)
    nearest = distance.amin(-1)  # [N, k, J]
    by_joint = best.transpose(1, 2)  # [N, J, k]
    score = scores.gather(2, by_joint).transpose(1, 2)
    place = candidates.gather(2, by_joint[..., None].expand(-1, -1, -1, 2)).transpose(1, 2)  # [N, k, J, 2]
    low, high = (centre - extent / 2)[:, :, None], (centre + extent / 2)[:, :, None]
    inside = ((place >= low) & (place <= high)).all(-1)
    good = inside & (score >= MIN_JOINT_SCORE) & (nearest <= SEARCH_SCALE * longest)
    return torch.where(good[..., None], place, regressed), torch.where(good, score, MIN_JOINT_SCORE)


def decode_joints(
    found: PaddedDetections,
    cells: tuple[Tensor, Tensor],
    maps: dict[str, Tensor],
    sizes: Tensor,
    stride: int,
    person: int,
    clip: bool,
) -> PaddedPoses:
    """Add the joints, in input pixels, to the detections of class ``person``; the others' are 0.

    ``clip`` moves joints outside the unpadded picture to its border and sets their scores to 0.
    """
    ys, xs = cells
    regressed = regressed_joints(maps["keypoint_regression"], ys, xs)
    candidates, scores = joint_candidates(maps["keypoint_heatmap"], maps["keypoint_offset"])
    map_boxes = decode_centers(ys, xs, maps["size"], maps["offset"], 1)  # clipped to the map, not to the picture
    joints, joint_scores = match_joints(regressed, candidates, scores, map_boxes)
    joints = joints * stride
    if clip:
        limit = sizes.flip(-1)[:, None, None].to(joints.dtype)
        outside = ((joints < 0) | (joints > limit)).any(-1)
        joints = joints.clamp(min=0).minimum(limit)
        joint_scores = torch.where(outside, 0.0, joint_scores)
    keypoints = torch.cat([joints, joint_scores[..., None]], -1)
    keypoints = torch.where((found.labels == person)[..., None, None], keypoints, 0.0)
    return PaddedPoses(*found, keypoints)


def rescore(poses: PaddedPoses, threshold: float = 0.0) -> Tensor:
    """Scores [N, D] times the mean score of the joints above ``threshold``, for detections that have joints."""
    joint_scores = poses.keypoints[..., 2]
    counted = joint_scores > threshold
    mean = torch.where(counted, joint_scores, 0.0).sum(-1) / counted.sum(-1).clamp(min=1)
    return poses.scores * mean
