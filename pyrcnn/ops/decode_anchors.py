"""All anchors of an RPN, decoded and clipped in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._register import call, input_errors, refuse_forward_ad, register_fake
from ._types import listed
from .decode_boxes import DELTA_CLIP, decode_boxes
from .grid_anchors import Stride, grid_anchors, stride_pair

_op = torch.ops.pyrcnn.decode_anchors.default
_boxes_backward = torch.ops.pyrcnn._decode_boxes_backward.default


@input_errors
def decode_anchors(
    deltas: Sequence[Tensor],
    cell_anchors: Sequence[Tensor],
    strides: Sequence[Stride],
    image_sizes: Tensor,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float = DELTA_CLIP,
    offset: float = 0.0,
) -> Tensor:
    """Return the box of every anchor of every level, clipped to its image, without building the anchors.

    The result equals :func:`grid_anchors`, :func:`decode_boxes` and clipping, in one pass over the network's output.
    :func:`generate_proposals` decodes only the boxes that it keeps.

    Args:
        deltas: per level, box regressions [N, 4A, H, W] of one floating-point dtype, NCHW or NHWC. Channel
            ``4 * a + i`` is the i-th of (dx, dy, dw, dh) of anchor ``a``.
        cell_anchors: per level, boxes [A, 4] around the point (0, 0), in pixels.
        strides: per level, pixels per cell: a number, or (vertical, horizontal).
        image_sizes: [N, 2] height and width in pixels, any number dtype.
        weights, clip: as in :func:`decode_boxes`.
        offset: as in :func:`grid_anchors`.

    Returns:
        boxes [N, sum of H * W * A, 4], level by level, with the anchor as the fastest index; float32 (float64 for
        float64 deltas). Differentiable in ``deltas``.

    Raises:
        InputError: for wrong shapes, dtypes or devices.

    Source: Ren et al. 2015, section 3.1.

    Example:
        >>> cell, zeros = torch.tensor([[-8.0, -8.0, 8.0, 8.0]]), torch.zeros(1, 4, 1, 2)
        >>> decode_anchors([zeros], [cell], [16], torch.tensor([[32, 32]]), offset=0.5)
        tensor([[[ 0.,  0., 16., 16.],
                 [16.,  0., 32., 16.]]])
    """
    refuse_forward_ad("decode_anchors", deltas)
    pairs = [s for stride in strides for s in stride_pair(stride)]
    return call(
        _op, deltas, list(deltas), list(cell_anchors), pairs, image_sizes, listed("weights", weights), clip, offset
    )


@register_fake("decode_anchors")
def _(
    deltas: Sequence[Tensor],
    cell_anchors: Sequence[Tensor],
    strides: Sequence[float],
    image_sizes: Tensor,
    weights: Sequence[float],
    clip: float,
    offset: float,
) -> Tensor:
    first = deltas[0]
    count = sum(d.shape[2] * d.shape[3] * c.shape[0] for d, c in zip(deltas, cell_anchors, strict=True))
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    return first.new_empty((first.shape[0], count, 4), dtype=dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    deltas, cell_anchors, ctx.strides, image_sizes, *ctx.rest = inputs
    ctx.levels = len(deltas)
    ctx.save_for_backward(image_sizes, *deltas, *cell_anchors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    weights, clip, offset = ctx.rest
    image_sizes, *maps = ctx.saved_tensors
    limits = image_sizes.to(grad.dtype).flip(1).repeat(1, 2)[:, None]  # [N, 1, 4]: width, height, width, height
    results, first = [], 0
    for level in range(ctx.levels):
        deltas, cell = maps[level], maps[ctx.levels + level].to(grad.dtype)
        (n, _, h, w), a = deltas.shape, cell.shape[0]
        stride = (ctx.strides[2 * level], ctx.strides[2 * level + 1])
        anchors = grid_anchors([(h, w)], [stride], [cell], offset)[0]
        rows = deltas.reshape(n, a, 4, h, w).permute(0, 3, 4, 1, 2).reshape(n, h * w * a, 4)
        boxes = decode_boxes(rows, anchors, weights, clip)
        inside = (boxes >= 0) & (boxes <= limits)  # a clipped coordinate has no gradient
        part = (grad[:, first : first + anchors.shape[0]] * inside).contiguous()
        to_rows, _ = _boxes_backward(part, rows, anchors, 1, weights, clip, False)
        results.append(to_rows.reshape(n, h, w, a, 4).permute(0, 3, 4, 1, 2).reshape(deltas.shape))
        first += anchors.shape[0]
    return results, [None] * ctx.levels, None, None, None, None, None


torch.library.register_autograd("pyrcnn::decode_anchors", _backward, setup_context=_setup)
