"""Faster R-CNN's targets (which anchors and proposals are objects, a sample of them) and losses.

All functions work on whole batches, with fixed shapes, and never make the host wait for the device. Ground truth is
padded to G boxes per image. A sample has S slots per image; unused ones are marked.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops import encode_boxes, match_boxes
from ..layers import rows
from ..training import Term, Truth, random_keys
from .config import RoIConfig, RPNConfig

IGNORED = -1  # neither object nor background


class Sample(NamedTuple):
    """Training samples of the RoI head: S proposals per image.

    ``boxes`` [N, S, 4]; ``classes`` [N, S]: 0 background, label + 1, or -1 for an unused slot; ``deltas`` [N, S, 4]:
    the encoded ground truth, meaningful where ``classes > 0``.
    """

    boxes: Tensor
    classes: Tensor
    deltas: Tensor


def sample(positive: Tensor, negative: Tensor, size: int, fraction: float, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Draw ``size`` of K candidates per image: at most a ``fraction`` of positives, negatives for the rest.

    ``positive`` and ``negative`` are [N, K] bool. Returns ``indices`` [N, S] int64 and ``drawn`` [N, S] bool (False:
    unused slot) with S = min(size, K), positives first. All candidates of a kind are equally likely: the best of random
    keys are taken, because a permutation would not have a fixed shape. An image's sample depends on its seed in
    ``seeds`` [N], not on the other images: processes that share a batch draw what one process would.
    """
    most = min(int(size * fraction), positive.shape[1])
    size = min(size, positive.shape[1])
    keys = random_keys(seeds, positive.shape[1])
    best, where = torch.where(positive, keys, -1.0).topk(most, dim=1)  # [N, most], -1 where positives run out
    chosen = torch.zeros_like(positive).scatter(1, where, best >= 0)
    keys = torch.where(chosen, 2.0 + keys, torch.where(negative, keys, -1.0))
    values, indices = keys.topk(size, dim=1)
    return indices, values >= 0


def inside_image(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Which boxes [K, 4] lie wholly inside images of ``sizes`` [N, 2] (h, w): [N, K] bool."""
    limits = sizes.flip(-1)[:, None]  # [N, 1, 2] as x, y
    return ((boxes[:, :2] >= 0) & (boxes[:, 2:] <= limits)).all(-1)


def match(boxes: Tensor, targets: Truth, high: float, low: float, allow_low_quality: bool) -> tuple[Tensor, Tensor]:
    """Per box [K, 4] or [N, K, 4], the index of the ground truth it overlaps most and its state.

    A state is 1 (object), 0 (background) or -1 (neither).
    """
    indices, states, _ = match_boxes(
        boxes, targets.boxes, high, low, allow_low_quality=allow_low_quality, counts=targets.counts
    )
    return indices, states


def rpn_losses(
    objectness: Tensor, deltas: Tensor, anchors: Tensor, targets: Truth, sizes: Tensor, config: RPNConfig
) -> dict[str, Term]:
    """Losses of the proposal network from ``objectness`` [N, K] logits, ``deltas`` [N, K, 4] and ``anchors`` [K, 4].

    An anchor is an object if its IoU is at least ``config.foreground`` or the highest with some ground-truth box. It is
    background below ``config.background``. Others are no training samples (Ren et al. 2015, section 3.1.2).
    """
    matched, state = match(anchors, targets, config.foreground, config.background, allow_low_quality=True)
    if config.drop_outside:
        state = torch.where(inside_image(anchors, sizes), state, IGNORED)
    indices, drawn = sample(state == 1, state == 0, config.samples, config.positives, targets.seeds)
    is_object = drawn & (state.gather(1, indices) == 1)
    wanted = encode_boxes(rows(targets.boxes, matched.gather(1, indices)), anchors[indices], config.weights)
    count = drawn.sum()
    logits = objectness.gather(1, indices).float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, is_object.float(), reduction="none")
    box = masked_smooth_l1(rows(deltas, indices).float(), wanted, is_object, config.beta)
    return {
        "loss_objectness": Term(torch.where(drawn, cross_entropy, 0.0).sum(), count),
        "loss_rpn_box_reg": Term(config.box_weight * box, count),
    }


def sample_proposals(proposals: Tensor, counts: Tensor, targets: Truth, config: RoIConfig) -> Sample:
    """Draw ``config.samples`` of the first ``counts`` [N] proposals [N, K, 4] and the ground truth."""
    candidates = torch.cat([proposals, targets.boxes], 1)  # [N, P + G, 4]
    among_counts = torch.arange(proposals.shape[1], device=proposals.device) < counts[:, None]
    exists = torch.cat([among_counts, targets.real], 1)
    matched, state = match(candidates, targets, config.foreground, config.background, allow_low_quality=False)
    positive, negative = exists & (state == 1), exists & (state == 0)
    indices, drawn = sample(positive, negative, config.samples, config.positives, targets.seeds + 1)
    matched = matched.gather(1, indices)
    is_object = state.gather(1, indices) == 1
    classes = torch.where(is_object, targets.labels.gather(1, matched) + 1, 0)
    boxes = rows(candidates, indices)
    deltas = encode_boxes(rows(targets.boxes, matched), boxes, config.weights)
    return Sample(boxes, torch.where(drawn, classes, IGNORED), deltas)


def roi_losses(logits: Tensor, deltas: Tensor, drawn: Sample, config: RoIConfig) -> dict[str, Term]:
    """Losses of the RoI head from ``logits`` [N, S, C + 1] and ``deltas`` [N, S, 4C] (or [N, S, 4])."""
    classes = drawn.classes
    count = (classes >= 0).sum()
    cross_entropy = F.cross_entropy(
        logits.float().flatten(0, 1), classes.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    if deltas.shape[-1] > 4:  # each box by its own class
        per_class = deltas.unflatten(-1, (-1, 4))
        own = (classes - 1).clamp(min=0)[..., None, None].expand(-1, -1, 1, 4)
        deltas = per_class.gather(2, own)[:, :, 0]
    box = masked_smooth_l1(deltas.float(), drawn.deltas, classes > 0, config.beta)
    return {"loss_classifier": Term(cross_entropy, count), "loss_box_reg": Term(config.box_weight * box, count)}


def masked_smooth_l1(values: Tensor, wanted: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Sum of the smooth L1 of ``values`` [N, S, 4] against ``wanted`` where ``mask`` [N, S]; ``beta`` 0 is plain L1."""
    wanted = torch.where(mask[..., None], wanted, 0.0)  # an unused slot may be inf or NaN
    values = torch.where(mask[..., None], values, 0.0)
    if beta == 0:
        return F.l1_loss(values, wanted, reduction="sum")
    return F.smooth_l1_loss(values, wanted, beta=beta, reduction="sum")
