"""Non-maximum suppression in TensorFlow's order: boxes suppress each other as decoded and are clipped afterwards."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops import nms_padded
from ..layers import rows
from ..outputs import PaddedDetections


def suppress_then_clip(
    boxes: Tensor,
    scores: Tensor,
    sizes: Tensor,
    iou_threshold: float,
    max_per_class: int,
    max_total: int,
    *,
    score_threshold: float = -math.inf,
    counts: Tensor | None = None,
) -> PaddedDetections:
    """The best boxes of each image: what TensorFlow's ``batch_multiclass_non_max_suppression`` returns.

    Per class at most ``max_per_class`` boxes remain that do not overlap. They are clipped to the image, boxes without
    area are dropped, and the best ``max_total`` of all classes are returned, equal scores in the order of the classes.
    PyTorch's detectors clip first, so that a box outside the image suppresses nothing
    (:func:`pyrcnn.ops.roi_detections`).

    Args:
        boxes: [N, K, 4] in pixels, not clipped; every class has the same.
        scores: [N, C, K], not negative.
        sizes: [N, 2] height and width of the images.
        iou_threshold: IoU above which the lower-scored of two boxes of a class is dropped.
        max_per_class: the most boxes of a class that suppression keeps.
        max_total: D, the number of detections.
        score_threshold: scores must be greater.
        counts: [N], how many of the K boxes are real; None: all.
    """
    images, classes, count = scores.shape
    most = min(max_per_class, count)
    kept, _ = nms_padded(
        boxes[:, None].expand(-1, classes, -1, -1).flatten(0, 1),
        scores.flatten(0, 1),
        iou_threshold,
        most,
        score_threshold=score_threshold,
        valid=None if counts is None else counts.repeat_interleave(classes, output_size=images * classes),
    )
    kept = kept.unflatten(0, (images, classes))  # [N, C, most], -1 pads
    index = kept.clamp(min=0)
    kept_scores = scores.gather(2, index).flatten(1)  # [N, C * most]
    limits = sizes.to(boxes.dtype).flip(-1).repeat(1, 2)[:, None]  # [N, 1, 4] as x, y, x, y
    kept_boxes = rows(boxes, index.flatten(1)).clamp(min=0).minimum(limits)
    real = (kept.flatten(1) >= 0) & (kept_boxes[..., 2:] > kept_boxes[..., :2]).all(-1)
    short = max(max_total - classes * most, 0)
    ranked = F.pad(torch.where(real, kept_scores, -1.0), (0, short), value=-1.0)
    best, order = ranked.sort(dim=1, descending=True, stable=True)  # the sort is stable: equal scores by class
    best, order = best[:, :max_total], order[:, :max_total]  # [N, D]
    found = best >= 0
    return PaddedDetections(
        torch.where(found[..., None], rows(F.pad(kept_boxes, (0, 0, 0, short)), order), 0.0),
        torch.where(found, best, 0.0),
        torch.where(found, order // most, -1),
        found.sum(1),
    )
