"""The tail of a RoI head, whole: from class logits and box regressions to detections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._register import input_errors, no_gradient
from .decode_boxes import DELTA_CLIP

_op = torch.ops.pyrcnn.roi_detections.default


@input_errors
def roi_detections(
    class_logits: Tensor,
    box_deltas: Tensor,
    proposals: Tensor,
    counts: Tensor,
    image_sizes: Tensor,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    max_detections: int = 100,
    weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
    clip: float = DELTA_CLIP,
    min_size: float = 0.01,
    background_first: bool = True,
    max_per_class: int | None = None,
    clip_first: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Turn the outputs of a RoI head into detections (Girshick 2015, section 3.1), all images at once.

    Softmax over the classes; every pair of a proposal and a class that is not the background is a candidate when its
    score exceeds ``score_threshold``. Candidates are decoded and clipped to the image; boxes that are not finite, or
    thinner or lower than ``min_size`` pixels, are dropped; within each class boxes suppress greedily at IoU >
    ``nms_threshold``; the ``max_detections`` best of all classes remain, ties by lower proposal, then lower class. This
    is torchvision's ``postprocess_detections``, with suppression exactly per class. Nothing here has a gradient.

    Args:
        class_logits: [N, P, C + 1], with the background in column 0, or in the last with ``background_first=False``
            (torchvision and TensorFlow have it first, detectron2 last); float32, float64, float16 or bfloat16.
        box_deltas: regressions (dx, dy, dw, dh) of any floating dtype: [N, P, 4C] per class, [N, P, 4(C + 1)] with the
            background's among them (torchvision), where it stands in ``class_logits``, or [N, P, 4] for all classes.
        proposals: [N, P, 4], x1 y1 x2 y2 in pixels, any floating dtype.
        counts: [N], how many proposals of each image are real; the rest is padding and is never read.
        image_sizes: [N, 2] height and width in pixels of each image without its padding; any number dtype.
        score_threshold: scores must exceed this.
        nms_threshold: IoU above which the lower-scored of two boxes of a class goes.
        max_detections: D, how many detections an image gets at most.
        weights: what the four deltas are divided by.
        clip: greatest dw and dh before exp; ``math.inf`` for none.
        min_size: least width and height of a clipped box in pixels; 0 keeps all.
        background_first: which column of ``class_logits`` is the background.
        max_per_class: how many detections a class of an image gets at most; None for no limit.
        clip_first: clip and drop before suppression, as PyTorch's detectors do. With False as TensorFlow's do: boxes
            suppress each other as decoded, and only the ``max_detections`` best are clipped, those without
            area dropped.

    Returns:
        boxes [N, D, 4] and scores [N, D] by descending score, float32 (float64 for float64 logits); labels [N, D]
        int64, 0-based without the background; counts [N] int64. Behind the last
        detection boxes and scores are 0, labels -1.

    Example:
        >>> logits = torch.tensor([[[0.0, 3.0, 0.0]]])
        >>> proposals, size = torch.tensor([[[2.0, 2.0, 6.0, 6.0]]]), torch.tensor([[8, 8]])
        >>> boxes, scores, labels, counts = roi_detections(
        ...     logits, torch.zeros(1, 1, 4), proposals, torch.tensor([1]), size, max_detections=1
        ... )
        >>> boxes.tolist(), labels.tolist(), counts.tolist()
        ([[[2.0, 2.0, 6.0, 6.0]]], [[0]], [1])
    """
    return _op(
        class_logits,
        box_deltas,
        proposals,
        counts,
        image_sizes,
        score_threshold,
        nms_threshold,
        max_detections,
        weights,
        clip,
        min_size,
        background_first,
        max_detections if max_per_class is None else max_per_class,
        clip_first,
    )


@torch.library.register_fake("pyrcnn::roi_detections")
def _(
    class_logits: Tensor,
    box_deltas: Tensor,
    proposals: Tensor,
    counts: Tensor,
    image_sizes: Tensor,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
    weights: Sequence[float],
    clip: float,
    min_size: float,
    background_first: bool,
    max_per_class: int,
    clip_first: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = torch.float64 if class_logits.dtype == torch.float64 else torch.float32
    n = class_logits.shape[0]
    return (
        class_logits.new_empty((n, max_detections, 4), dtype=dtype),
        class_logits.new_empty((n, max_detections), dtype=dtype),
        class_logits.new_empty((n, max_detections), dtype=torch.int64),
        class_logits.new_empty((n,), dtype=torch.int64),
    )


no_gradient("roi_detections")
