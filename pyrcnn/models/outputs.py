"""The padded results of a detector, and the lists of detections made from them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..structures import Detections


class PaddedDetections(NamedTuple):
    """``boxes`` [N, D, 4], ``scores`` [N, D], ``labels`` [N, D], ``counts`` [N] int64; descending score per image.

    Boxes are in pixels of the unpadded network input. Rows from ``counts[n]`` on are padding: 0, labels -1.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    counts: Tensor


class PaddedPoses(NamedTuple):
    """:class:`PaddedDetections` with ``keypoints`` [N, D, J, 3]: x, y in the boxes' pixels and the joint's score."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    counts: Tensor
    keypoints: Tensor


def to_image_pixels(
    padded: PaddedDetections | PaddedPoses, sizes: Tensor, scales: Tensor
) -> PaddedDetections | PaddedPoses:
    """``padded`` in the pixels of each image instead of those of the network input; boxes are clipped to the image.

    ``sizes`` [N, 2] (h, w) of the unpadded network input; ``scales`` [N, 2] (y, x), pixels of the network input per
    pixel of the image.
    """
    scale = scales.flip(-1)  # [N, 2] as x, y
    limit = sizes.flip(-1) / scale
    boxes = padded.boxes / scale.repeat(1, 2)[:, None]
    padded = padded._replace(boxes=boxes.clamp(min=0).minimum(limit.repeat(1, 2)[:, None]))
    if isinstance(padded, PaddedPoses):
        places, scores = padded.keypoints[..., :2], padded.keypoints[..., 2:]
        return padded._replace(keypoints=torch.cat([places / scale[:, None, None], scores], -1))
    return padded


def trim(padded: PaddedDetections | PaddedPoses, sizes: Tensor, scales: Tensor) -> list[Detections]:
    """Detections without padding, in each image's own pixels; the arguments are those of :func:`to_image_pixels`."""
    padded = to_image_pixels(padded, sizes, scales)
    keypoints = getattr(padded, "keypoints", None)
    return [
        Detections(padded.boxes[n, :count], padded.scores[n, :count], padded.labels[n, :count],
                   None if keypoints is None else keypoints[n, :count])
        for n, count in enumerate(padded.counts.tolist())
    ]  # fmt: skip
