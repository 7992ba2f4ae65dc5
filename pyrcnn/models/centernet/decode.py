"""Raw maps to detections: peaks of the class heat map, a box at each, and its joints (Zhou et al. 2019).

Results have fixed shapes, and nothing here makes the host wait for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...ops import decode_centers, heatmap_peaks, match_keypoints
from ..outputs import PaddedDetections, PaddedPoses
from .heads import joint_deviations

PEAK_TOLERANCE = 1e-6  # a cell this close to its neighbourhood's maximum is a peak, as in TF


def gather_cells(maps: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """[N, C, H, W] at cells ys, xs [N, D] → [N, D, C]."""
    index = (ys * maps.shape[3] + xs)[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, index).transpose(1, 2)


def decode(
    maps: dict[str, Tensor],
    sizes: Tensor,
    stride: int,
    k: int,
    person: int = 0,
    clip: bool = False,
    ranking: str = "distance",
    rescored: bool = False,
) -> PaddedDetections | PaddedPoses:
    """The ``k`` best peaks with their boxes in pixels of the network input, and keypoints where ``maps`` have them.

    Args:
        maps: what :meth:`CenterNet.heads` returns.
        sizes: [N, 2] (h, w) of the unpadded images, to which boxes are clipped.
        stride: pixels per cell.
        k: D, the number of detections.
        person: the class whose joints are returned; keypoints of other classes are 0.
        clip: move joints outside the image to its border and set their scores to 0.
        ranking: how candidates for joints are chosen; see :func:`pyrcnn.ops.match_keypoints`.
        rescored: multiply a person's score by the mean score of the joints.
    """
    scores, labels, ys, xs = heatmap_peaks(maps["heatmap"], k, tolerance=PEAK_TOLERANCE)
    boxes = decode_centers(ys, xs, maps["size"], maps["offset"], stride)  # [N, D, 4], clipped to the map
    limit = sizes.flip(-1).repeat(1, 2)[:, None].to(boxes.dtype)
    found = scores > 0
    labels = torch.where(found, labels, -1)
    clipped = torch.where(found[..., None], boxes.minimum(limit), 0.0)
    padded = PaddedDetections(clipped, scores, labels, found.sum(1))
    if "keypoint_heatmap" not in maps:
        return padded

    heatmap = maps["keypoint_heatmap"]
    joints, joint_scores = match_keypoints(
        ys,
        xs,
        heatmap,
        maps["keypoint_regression"],
        maps["keypoint_offset"],
        boxes,
        stride,
        image_sizes=sizes if clip else None,
        tolerance=PEAK_TOLERANCE,
        ranking=ranking,  # type: ignore[arg-type]
        spreads=joint_deviations(heatmap.shape[1]) if ranking == "gaussian" else (),
    )
    keypoints = torch.cat([joints, joint_scores[..., None]], -1)  # [N, D, J, 3]
    keypoints = torch.where((labels == person)[..., None, None], keypoints, 0.0)
    poses = PaddedPoses(*padded, keypoints)
    return rescore(poses, person) if rescored else poses


def rescore(poses: PaddedPoses, person: int) -> PaddedPoses:
    """``poses`` with scores of class ``person`` times the mean of their positive joint scores, sorted again."""
    joint_scores = poses.keypoints[..., 2]
    mean = joint_scores.sum(-1) / (joint_scores > 0).sum(-1).clamp(min=1)
    scores = torch.where(poses.labels == person, poses.scores * mean, poses.scores)
    scores, order = scores.sort(dim=1, descending=True, stable=True)

    def sorted_rows(x: Tensor) -> Tensor:
        index = order.reshape(*order.shape, *[1] * (x.ndim - 2)).expand_as(x)
        return x.gather(1, index)

    return PaddedPoses(
        sorted_rows(poses.boxes), scores, sorted_rows(poses.labels), poses.counts, sorted_rows(poses.keypoints)
    )
