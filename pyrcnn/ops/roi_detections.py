"""The postprocessing of a RoI head: from class logits and box regressions to detections, in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._register import input_errors, no_gradient, register_fake
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the detections of a RoI head (Girshick 2015, section 3.1) for a batch of images.

    Softmax over the classes gives the scores. Every pair of a proposal and a class with a score above
    ``score_threshold`` is a candidate. Candidates are decoded and clipped to the image. Boxes that are not finite, or
    narrower or lower than ``min_size``, are dropped. Within each class, boxes are suppressed greedily at IoU >
    ``nms_threshold``. The ``max_detections`` best of all classes remain, ties by lower proposal, then lower class.

    This is torchvision's ``postprocess_detections``, with suppression exactly per class. Nothing synchronizes with the
    host, and nothing has a gradient.

    Args:
        class_logits: [N, P, C + 1], with the background in column 0 (torchvision, TensorFlow), or in the last with
            ``background_first=False`` (detectron2); float32, float64, float16 or bfloat16.
        box_deltas: regressions (dx, dy, dw, dh), any floating-point dtype: [N, P, 4C] per class; [N, P, 4(C + 1)] with
            the background's at its place in ``class_logits`` (torchvision); or [N, P, 4] for all classes.
        proposals: [N, P, 4], x1 y1 x2 y2 in pixels, any floating-point dtype.
        counts: [N], how many proposals of each image are real; the others are padding and never read.
        image_sizes: [N, 2] height and width in pixels of each image without padding; any number dtype.
        score_threshold: scores must exceed this.
        nms_threshold: IoU above which the lower-scored of two boxes of a class is suppressed.
        max_detections: D, how many detections an image gets at most.
        weights: the four deltas are divided by these.
        clip: dw and dh are limited to this before exp; ``math.inf`` for no limit.
        min_size: the least width and height of a clipped box, in pixels; 0 keeps all.
        background_first: whether column 0 of ``class_logits`` is the background, or the last.
        max_per_class: how many detections a class of an image gets at most; None for no limit.

    Returns:
        boxes [N, D, 4] and scores [N, D] in descending order of score, float32 (float64 for float64 logits), padded
        with 0; labels [N, D] int64, from 0 without background, padded with -1; counts [N] int64.

    Raises:
        InputError: for wrong shapes, dtypes or devices.

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
    )


@register_fake("roi_detections")
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
