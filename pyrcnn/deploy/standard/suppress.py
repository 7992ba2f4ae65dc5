"""Greedy suppression as an operator that other runtimes have, and what its users need around it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NONE = -1e30  # the score of what does not exist: below every logit, and finite, because runtimes compare with it


def is_real(scores: Tensor) -> Tensor:
    """Whether scores are more than :data:`NONE`."""
    return scores > NONE / 2


@torch.library.custom_op("pyrcnn_standard::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    """Whether greedy suppression keeps each of ``boxes`` [M, K, 4] with ``scores`` [M, K], for every row by itself.

    At most ``most`` boxes of a row are kept. Boxes of score :data:`NONE` are not. ONNX: ``NonMaxSuppression``.
    """
    index, _ = torch.ops.pyrcnn.nms_padded(boxes, scores, iou_threshold, most, None, NONE / 2, None)
    kept = torch.zeros(*scores.shape[:1], scores.shape[1] + 1, dtype=torch.bool, device=scores.device)
    return kept.scatter(1, torch.where(index < 0, scores.shape[1], index), True)[:, :-1].clone()


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` highest of ``scores`` [..., K] in descending order, and their indices.

    If K is less, or not known, :data:`NONE` is appended first; indices then exceed K, see :func:`take`.
    """
    count = scores.shape[-1]
    if not (isinstance(count, int) and count >= k):
        scores = F.pad(scores, (0, k), value=NONE)
    return scores.topk(k, -1)  # type: ignore[return-value]


def take(values: Tensor, index: Tensor) -> Tensor:
    """``values`` [..., K, X] at ``index`` [..., D], which :func:`best` returned: [..., D, X]."""
    index = index.clamp(max=values.shape[-2] - 1)
    return values.gather(-2, index[..., None].expand(*index.shape, values.shape[-1]))


def nms_padded(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_output: int,
    groups: Tensor | None,
    score_threshold: float,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """As the operator, without ``groups``."""
    if groups is not None:
        return NotImplemented
    real = scores > max(score_threshold, NONE / 2)
    if valid is not None:
        real = real & (torch.arange(scores.shape[1], device=scores.device) < valid[:, None])
    scores = torch.where(real, scores, NONE)
    kept = suppress(boxes, scores, iou_threshold, max_output)
    chosen, index = best(torch.where(kept, scores, NONE), max_output)
    found = is_real(chosen)
    return torch.where(found, index, -1), found.sum(1)
