"""The padded results of a detector, and the lists of detections made from them."""

from __future__ import annotations

from typing import NamedTuple

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


def trim(padded: PaddedDetections | PaddedPoses, sizes: Tensor, scales: Tensor) -> list[Detections]:
    """Detections without padding, in each image's own pixels.

    ``sizes`` [N, 2] (h, w) of the unpadded network input; ``scales`` [N, 2] (y, x), pixels of the network input per
    pixel of the image.
    """
    scale = scales.flip(-1)  # [N, 2] as x, y
    limit = sizes.flip(-1) / scale
    boxes = padded.boxes / scale.repeat(1, 2)[:, None]
    boxes = boxes.clamp(min=0).minimum(limit.repeat(1, 2)[:, None])
    keypoints = getattr(padded, "keypoints", None)
    if keypoints is not None:
        keypoints = keypoints.clone()
        keypoints[..., :2] /= scale[:, None, None]
    return [
        Detections(boxes[n, :count], padded.scores[n, :count], padded.labels[n, :count],
                   None if keypoints is None else keypoints[n, :count])
        for n, count in enumerate(padded.counts.tolist())
    ]  # fmt: skip
