"""Local maxima of heatmaps: the centres of CenterNet's detections."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._register import call, input_errors, refuse_forward_ad, register_fake

_op = torch.ops.pyrcnn.heatmap_peaks.default


class Peaks(NamedTuple):
    """Peaks of heatmaps in descending order of score: what :func:`heatmap_peaks` returns.

    Attributes:
        scores: [N, k] float32 (float64 for float64 heatmaps); 0 where a peak is missing.
        classes: [N, k] int64.
        ys: [N, k] int64, rows of the heatmap.
        xs: [N, k] int64, columns of the heatmap.

    Example:
        >>> peaks = heatmap_peaks(torch.eye(4)[None, None], k=4, sigmoid=False)
        >>> peaks.ys[peaks.scores > 0.5]
        tensor([0, 1, 2, 3])
    """

    scores: Tensor
    classes: Tensor
    ys: Tensor
    xs: Tensor


@input_errors
def heatmap_peaks(
    heatmap: Tensor,
    k: int,
    kernel: int = 3,
    sigmoid: bool = True,
    tolerance: float = 0.0,
    per_class: bool = False,
) -> Peaks:
    """Return the ``k`` highest local maxima of each image's heatmaps.

    Source: Zhou et al. 2019, "Objects as Points", section 4. A cell is a peak if no cell of its class in the ``kernel``
    x ``kernel`` window around it is higher, and its score is positive. Equal neighbours are both peaks. NaN is never a
    peak and never suppresses one.

    Args:
        heatmap: [N, C, H, W] logits, or scores if ``sigmoid`` is False; any floating-point dtype, NCHW or NHWC in
            memory.
        k: how many peaks to return per image.
        kernel: the window's side, odd; 1 makes every cell a peak.
        sigmoid: the score of a cell is the sigmoid of its value; otherwise the value itself.
        tolerance: if positive, a cell is a peak if its score is less than this below the highest score in the window,
            both rounded to the compute type; TensorFlow's CenterNet uses 1e-6. If 0, values are compared exactly.
        per_class: return the ``k`` best peaks of every class instead of the ``k`` best over all classes.

    Returns:
        ``Peaks(scores, classes, ys, xs)``, each [N, k] ([N, C, k] with ``per_class``), in descending order of score,
        ties by (y, x, class). Scores are float32 (float64 for float64 maps) and differentiable; the others are int64.
        Missing peaks have score, class, y and x 0 (with ``per_class`` they keep their class).

    Raises:
        InputError: for a wrong shape, dtype, ``k`` or ``kernel``.

    Example:
        >>> heatmap = torch.zeros(1, 2, 4, 4)
        >>> heatmap[0, 1, 2, 3] = 5.0
        >>> scores, classes, ys, xs = heatmap_peaks(heatmap, k=1)
        >>> classes.item(), ys.item(), xs.item()
        (1, 2, 3)
    """
    refuse_forward_ad("heatmap_peaks", (heatmap,))
    return Peaks(*call(_op, (heatmap,), heatmap, k, kernel, sigmoid, tolerance, per_class))


@register_fake("heatmap_peaks")
def _(heatmap: Tensor, k: int, kernel: int, sigmoid: bool, tolerance: float, per_class: bool) -> tuple[Tensor, ...]:
    sizes = (heatmap.shape[0], heatmap.shape[1], k) if per_class else (heatmap.shape[0], k)
    scores = heatmap.new_empty(sizes, dtype=torch.float64 if heatmap.dtype == torch.float64 else torch.float32)
    return scores, *(heatmap.new_empty(sizes, dtype=torch.int64) for _ in range(3))


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    heatmap, _, _, ctx.sigmoid, _, _ = inputs
    ctx.shape, ctx.dtype = heatmap.shape, heatmap.dtype
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*output)


def _backward(ctx, grad: Tensor, *_: Tensor):  # type: ignore[no-untyped-def]
    scores, classes, ys, xs = ctx.saved_tensors
    n, c, h, w = ctx.shape
    slope = scores * (1 - scores) if ctx.sigmoid else (scores != 0).to(scores.dtype)  # 0 where the peak is missing
    flat = grad.new_zeros(n, c * h * w)
    if flat.numel() > 0:  # without this, missing peaks of an empty map would index its cell 0
        cells = ((classes * h + ys) * w + xs).flatten(1)
        flat = flat.scatter_add(1, cells, (grad * slope).flatten(1))
    return flat.reshape(ctx.shape).to(ctx.dtype), None, None, None, None, None


torch.library.register_autograd("pyrcnn::heatmap_peaks", _backward, setup_context=_setup_context)
