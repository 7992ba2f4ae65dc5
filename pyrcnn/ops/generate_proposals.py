"""The postprocessing of a region proposal network (RPN): from objectness maps to proposals, in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._register import input_errors, no_gradient, register_fake
from .decode_boxes import DELTA_CLIP

_op = torch.ops.pyrcnn.generate_proposals.default

Stride = float | tuple[float, float]


@input_errors
def generate_proposals(
    objectness: Sequence[Tensor],
    deltas: Sequence[Tensor],
    cell_anchors: Sequence[Tensor],
    strides: Sequence[Stride],
    image_sizes: Tensor,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    min_size: float = 0.0,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float = DELTA_CLIP,
    offset: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the proposals of a region proposal network (Ren et al. 2015, section 3.3) for a batch of images.

    Per level and image, the ``pre_nms_top_n`` highest logits are selected (ties by lower index in [H, W, A] order).
    Their boxes are decoded and clipped to the image. Boxes narrower or lower than ``min_size`` are dropped, the others
    suppressed greedily at IoU > ``nms_threshold``; levels do not suppress each other. Of all levels, the
    ``post_nms_top_n`` boxes with the highest scores remain (equal scores in the order of the levels).

    This is torchvision's ``filter_proposals``, with suppression exactly per level. Logits that are not
    finite are dropped before the selection, boxes after decoding. Nothing synchronizes with the host, and nothing has a
    gradient.

    Args:
        objectness: per level, logits [N, A, H, W]; float32, float64, float16 or bfloat16, NCHW or NHWC.
        deltas: per level, box regressions [N, 4A, H, W] of the same dtype, any strides. Channel ``4 * a + i`` is the
            i-th of (dx, dy, dw, dh) of anchor ``a``.
        cell_anchors: per level, boxes [A, 4] around the point (0, 0), x1 y1 x2 y2 in pixels.
        strides: per level, pixels per cell: a number, or (vertical, horizontal). 0 after the first level: the size of
            the network input, the first map's size times its stride, divided by this map's size and rounded down.
        image_sizes: [N, 2] height and width in pixels of each image without padding; any number dtype.
        pre_nms_top_n: how many anchors of a level enter suppression.
        post_nms_top_n: how many proposals an image gets.
        nms_threshold: IoU above which the lower-scored of two boxes is suppressed.
        min_size: the least width and height of a clipped box, in pixels.
        weights: the four deltas are divided by these.
        clip: dw and dh are limited to this before exp; ``math.inf`` for no limit.
        offset: the centre of cell x lies at ``(x + offset) * stride``.

    Returns:
        boxes [N, post_nms_top_n, 4] and scores [N, post_nms_top_n] (sigmoid of the logit) in descending order of score,
        float32 (float64 for float64 inputs), padded with zeros; counts [N] int64.

    Raises:
        InputError: for wrong shapes, dtypes or devices.

    Example:
        >>> logits, zeros = torch.tensor([[[[2.0, 0.0]]]]), torch.zeros(1, 4, 1, 2)
        >>> cell = torch.tensor([[-8.0, -8.0, 8.0, 8.0]])
        >>> boxes, scores, counts = generate_proposals(
        ...     [logits], [zeros], [cell], [16.0], torch.tensor([[32, 32]]), 2, 2, 0.7, offset=0.5
        ... )
        >>> boxes[0].tolist()
        [[0.0, 0.0, 16.0, 16.0], [16.0, 0.0, 32.0, 16.0]]
    """
    pairs: list[float] = []
    for stride in strides:
        pairs.extend(stride if isinstance(stride, (tuple, list)) else (stride, stride))
    return _op(
        objectness,
        deltas,
        cell_anchors,
        pairs,
        image_sizes,
        pre_nms_top_n,
        post_nms_top_n,
        nms_threshold,
        min_size,
        weights,
        clip,
        offset,
    )


@register_fake("generate_proposals")
def _(
    objectness: Sequence[Tensor],
    deltas: Sequence[Tensor],
    cell_anchors: Sequence[Tensor],
    strides: Sequence[float],
    image_sizes: Tensor,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    min_size: float,
    weights: Sequence[float],
    clip: float,
    offset: float,
) -> tuple[Tensor, Tensor, Tensor]:
    like = objectness[0]
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    n = like.shape[0]
    return (
        like.new_empty((n, post_nms_top_n, 4), dtype=dtype),
        like.new_empty((n, post_nms_top_n), dtype=dtype),
        like.new_empty((n,), dtype=torch.int64),
    )


no_gradient("generate_proposals")
