"""What Faster R-CNN learns: which anchors and proposals are objects, a sample of them, and the losses on it.

Functions of tensors, batched over images, of fixed shapes and without host synchronisation. Ground truth is padded to
``G`` boxes per image; a sample always has its full size, and its unused slots are marked, never cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops import encode_boxes, match_boxes
from ...structures import Targets
from ..layers import rows
from .config import RoIConfig, RPNConfig

IGNORED = -1  # neither object nor background


class PaddedTargets(NamedTuple):
    """Ground truth of a batch: ``boxes`` [N, G, 4] in network pixels, ``labels`` [N, G], ``counts`` [N]; zeros pad."""

    boxes: Tensor
    labels: Tensor
    counts: Tensor


class Sample(NamedTuple):
    """What the RoI head learns from: S proposals per image.

    ``boxes`` [N, S, 4]; ``classes`` [N, S]: 0 background, label + 1, or -1 for an unused slot; ``deltas`` [N, S, 4]:
    the encoded ground truth, meaningful where ``classes > 0``.
    """

    boxes: Tensor
    classes: Tensor
    deltas: Tensor


def pad_targets(targets: Sequence[Targets], scales: Tensor) -> PaddedTargets:
    """Ground truth in picture pixels to one batch in network pixels; ``scales`` [N, 2] (y, x). Crowds are left out."""
    kept = [(t.boxes, t.labels) if t.crowd is None else (t.boxes[~t.crowd], t.labels[~t.crowd]) for t in targets]
    counts = [len(boxes) for boxes, _ in kept]
    device, most = scales.device, max([*counts, 1])
    boxes = torch.zeros(len(kept), most, 4, device=device)
    labels = torch.zeros(len(kept), most, dtype=torch.int64, device=device)
    for n, (image_boxes, image_labels) in enumerate(kept):
        boxes[n, : counts[n]] = image_boxes.to(boxes)
        labels[n, : counts[n]] = image_labels.to(labels)
    boxes *= scales.flip(-1).repeat(1, 2)[:, None]
    return PaddedTargets(boxes, labels, torch.tensor(counts, device=device))


def sample(positive: Tensor, negative: Tensor, size: int, fraction: float) -> tuple[Tensor, Tensor]:
    """Draw ``size`` of M candidates per image: positives up to ``fraction``, negatives for the rest.

    ``positive``, ``negative`` [N, M] bool. Returns ``indices`` [N, S] int64 and ``drawn`` [N, S] bool, S = min(size,
    M): slots beyond what there was to draw are False. All candidates of a kind are equally likely; positives first.
    Random keys and a top-k stand for a permutation, so that shapes are fixed.
    """
    most = min(int(size * fraction), positive.shape[1])
    size = min(size, positive.shape[1])
    keys = torch.rand(positive.shape, device=positive.device)
    best, where = torch.where(positive, keys, -1.0).topk(most, dim=1)  # [N, most], -1 where positives run out
    chosen = torch.zeros_like(positive).scatter(1, where, best >= 0)
    keys = torch.where(chosen, 2.0 + keys, torch.where(negative, keys, -1.0))
    values, indices = keys.topk(size, dim=1)
    return indices, values >= 0


def inside_image(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Which boxes [M, 4] lie wholly in images of ``sizes`` [N, 2] (h, w): [N, M] bool."""
    limits = sizes.flip(-1)[:, None]  # [N, 1, 2] as x, y
    return ((boxes[:, :2] >= 0) & (boxes[:, 2:] <= limits)).all(-1)


def match(
    boxes: Tensor, targets: PaddedTargets, high: float, low: float, allow_low_quality: bool
) -> tuple[Tensor, Tensor]:
    """Per box [M, 4] or [N, M, 4] the ground truth it overlaps most, and its state (1 object, 0 background, -1)."""
    indices, states, _ = match_boxes(
        boxes, targets.boxes, high, low, allow_low_quality=allow_low_quality, counts=targets.counts
    )
    return indices, states


def rpn_losses(
    objectness: Tensor, deltas: Tensor, anchors: Tensor, targets: PaddedTargets, sizes: Tensor, config: RPNConfig
) -> dict[str, Tensor]:
    """Losses of the proposal network from ``objectness`` [N, M] logits, ``deltas`` [N, M, 4] and ``anchors`` [M, 4].

    An anchor is an object from an IoU of ``config.foreground`` up, or where none lies closer to a ground-truth box; it
    is background below ``config.background``; between the two it is not learnt from (Ren et al. 2015, section 3.1.2).
    """
    matched, state = match(anchors, targets, config.foreground, config.background, allow_low_quality=True)
    if config.drop_outside:
        state = torch.where(inside_image(anchors, sizes), state, IGNORED)
    indices, drawn = sample(state == 1, state == 0, config.samples, config.positives)
    is_object = drawn & (state.gather(1, indices) == 1)
    wanted = encode_boxes(rows(targets.boxes, matched.gather(1, indices)), anchors[indices], config.weights)
    count = drawn.sum().clamp(min=1)
    logits = objectness.gather(1, indices).float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, is_object.float(), reduction="none")
    return {
        "loss_objectness": torch.where(drawn, cross_entropy, 0.0).sum() / count,
        "loss_rpn_box_reg": config.box_weight
        * masked_smooth_l1(rows(deltas, indices).float(), wanted, is_object, config.beta)
        / count,
    }


def sample_proposals(proposals: Tensor, counts: Tensor, targets: PaddedTargets, config: RoIConfig) -> Sample:
    """Draw ``config.samples`` of the proposals [N, P, 4] (the first ``counts`` [N] count), ground truth among them."""
    candidates = torch.cat([proposals, targets.boxes], 1)  # [N, P + G, 4]
    exists = torch.cat([_first(proposals, counts), _first(targets.boxes, targets.counts)], 1)
    matched, state = match(candidates, targets, config.foreground, config.background, allow_low_quality=False)
    indices, drawn = sample(exists & (state == 1), exists & (state == 0), config.samples, config.positives)
    matched = matched.gather(1, indices)
    is_object = state.gather(1, indices) == 1
    classes = torch.where(is_object, targets.labels.gather(1, matched) + 1, 0)
    boxes = rows(candidates, indices)
    deltas = encode_boxes(rows(targets.boxes, matched), boxes, config.weights)
    return Sample(boxes, torch.where(drawn, classes, IGNORED), deltas)


def roi_losses(logits: Tensor, deltas: Tensor, drawn: Sample, config: RoIConfig) -> dict[str, Tensor]:
    """Losses of the RoI head from ``logits`` [N, S, C + 1] and ``deltas`` [N, S, 4 C] (or [N, S, 4])."""
    classes = drawn.classes
    count = (classes >= 0).sum().clamp(min=1)
    cross_entropy = F.cross_entropy(
        logits.float().flatten(0, 1), classes.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    if deltas.shape[-1] > 4:  # each box by its own class
        per_class = deltas.unflatten(-1, (-1, 4))
        own = (classes - 1).clamp(min=0)[..., None, None].expand(-1, -1, 1, 4)
        deltas = per_class.gather(2, own)[:, :, 0]
    box = masked_smooth_l1(deltas.float(), drawn.deltas, classes > 0, config.beta)
    return {"loss_classifier": cross_entropy / count, "loss_box_reg": config.box_weight * box / count}


def masked_smooth_l1(values: Tensor, wanted: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Sum of the smooth L1 of ``values`` [N, S, 4] against ``wanted`` where ``mask`` [N, S]; ``beta`` 0 is plain L1."""
    wanted = torch.where(mask[..., None], wanted, 0.0)  # an unused slot may hold inf or NaN
    values = torch.where(mask[..., None], values, 0.0)
    if beta == 0:
        return F.l1_loss(values, wanted, reduction="sum")
    return F.smooth_l1_loss(values, wanted, beta=beta, reduction="sum")


def _first(boxes: Tensor, counts: Tensor) -> Tensor:
    """[N, K] bool: which of ``boxes`` [N, K, 4] are among the first ``counts`` [N]."""
    return torch.arange(boxes.shape[1], device=boxes.device) < counts[:, None]
