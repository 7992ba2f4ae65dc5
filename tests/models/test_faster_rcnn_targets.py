"""Faster R-CNN's targets and losses against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyrcnn import Targets
from pyrcnn.models.faster_rcnn import RoIConfig, RPNConfig
from pyrcnn.models.faster_rcnn import targets as t
from pyrcnn.models.training import Truth, mean_losses, pad_truth, random_keys


def smooth_l1(x: float, beta: float) -> float:
    return abs(x) if beta == 0 else 0.5 * x * x / beta if abs(x) < beta else abs(x) - beta / 2


def encode(box: Tensor, anchor: Tensor, weights: tuple[float, ...]) -> list[float]:
    aw, ah = float(anchor[2] - anchor[0]), float(anchor[3] - anchor[1])
    w, h = float(box[2] - box[0]), float(box[3] - box[1])
    dx = (float(box[0]) + w / 2 - float(anchor[0]) - aw / 2) / aw
    dy = (float(box[1]) + h / 2 - float(anchor[1]) - ah / 2) / ah
    return [d * k for d, k in zip((dx, dy, math.log(w / aw), math.log(h / ah)), weights, strict=True)]


def random_boxes(count: int, size: float = 100.0) -> Tensor:
    corner = torch.rand(count, 2) * size * 0.7
    return torch.cat([corner, corner + 5 + torch.rand(count, 2) * size * 0.3], 1)


def truth_of(*counts: int) -> Truth:
    return pad_truth([Targets(random_boxes(count), torch.randint(0, 4, (count,))) for count in counts], 4)


def test_ground_truth_is_scaled_padded_and_crowds_are_left_out() -> None:
    one = Targets(
        torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 8.0, 8.0]]),
        torch.tensor([3, 1]),
        crowd=torch.tensor([False, True]),
    )
    none = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    padded = pad_truth([one, none], 4).scaled(torch.tensor([[2.0, 10.0], [1.0, 1.0]]))
    assert padded.boxes.tolist() == [[[10.0, 4.0, 30.0, 8.0]], [[0.0] * 4]]
    assert padded.labels.tolist() == [[3], [0]]
    assert padded.counts.tolist() == [1, 0]
    assert padded.real.tolist() == [[True], [False]]
    assert pad_truth([one, none], 4, multiple=16).boxes.shape == (2, 16, 4)


@pytest.mark.parametrize(
    ("positives", "negatives", "size", "fraction", "wanted"),
    [
        (20, 60, 16, 0.25, (4, 12)),
        (2, 60, 16, 0.25, (2, 14)),
        (20, 3, 16, 0.5, (8, 3)),
        (0, 0, 16, 0.5, (0, 0)),
        (0, 40, 16, 0.5, (0, 16)),
        (3, 3, 500, 0.5, (3, 3)),
        (60, 20, 400, 0.25, (60, 20)),  # fewer candidates than asked for: the share is of what was asked for
    ],
)
def test_a_sample_has_its_share_of_positives(
    positives: int, negatives: int, size: int, fraction: float, wanted: tuple[int, int]
) -> None:
    order = torch.stack([torch.randperm(100) for _ in range(3)])
    positive, negative = order < positives, (order >= positives) & (order < positives + negatives)
    indices, drawn = t.sample(positive, negative, size, fraction, torch.randint(2**62, (3,)))
    assert indices.shape == drawn.shape == (3, min(size, 100))
    for n in range(3):
        chosen = indices[n][drawn[n]]
        assert len(chosen.unique()) == len(chosen)
        assert (int(positive[n][chosen].sum()), int(negative[n][chosen].sum())) == wanted


def test_every_candidate_is_drawn_equally_often() -> None:
    positive = torch.zeros(4000, 12, dtype=torch.bool)
    positive[:, :6] = True
    indices, drawn = t.sample(positive, ~positive, 6, 0.5, torch.arange(4000) * 7)
    often = torch.bincount(indices[drawn], minlength=12) / 4000  # each of the 12 has chance 3 / 6
    assert (often - 0.5).abs().max() < 0.05


def test_random_keys_are_uniform_and_depend_on_the_seed_and_their_number_alone() -> None:
    seeds = torch.arange(2000) * 2**20 + 5
    keys = random_keys(seeds, 64)
    assert torch.equal(keys[17:18, :9], random_keys(seeds[17:18], 9))
    assert (keys.mean() - 0.5).abs() < 0.005
    assert (torch.histc(keys, 10, 0, 1) / keys.numel() - 0.1).abs().max() < 0.005
    rows, columns = torch.corrcoef(keys[:64]), torch.corrcoef(keys.T)
    assert (rows - torch.eye(64)).abs().max() < 0.7  # of 64 numbers each
    assert (columns - torch.eye(64)).abs().max() < 0.15  # of 2000


def test_rpn_losses_equal_a_plain_loop() -> None:
    config = RPNConfig(samples=10_000, positives=1.0, weights=(1.0, 2.0, 3.0, 4.0), drop_outside=True, box_weight=2.0)
    truth, anchors = truth_of(3, 0, 5), torch.cat([random_boxes(150), random_boxes(30) - 60])
    near = truth.boxes[0, :1] + torch.tensor([[0.5, -0.5, 1.0, 0.0]])
    anchors = torch.cat([anchors, near, truth.boxes[2] * 1.02])
    sizes = torch.tensor([[100, 100], [100, 100], [80, 90]])
    logits, deltas = torch.randn(3, len(anchors)), torch.randn(3, len(anchors), 4)
    got = mean_losses(t.rpn_losses(logits, deltas, anchors, truth, sizes, config))

    count, cross_entropy, regression = 0, 0.0, 0.0
    for n in range(3):
        real = truth.boxes[n, : truth.counts[n]]
        ious = [[iou(a, g) for g in real] for a in anchors]
        best_of = [max((row[g] for row in ious), default=0.0) for g in range(len(real))]
        for m, anchor in enumerate(anchors):
            height, width = sizes[n].tolist()
            if anchor[0] < 0 or anchor[1] < 0 or anchor[2] > width or anchor[3] > height:
                continue
            best = max(ious[m], default=0.0)
            forced = any(ious[m][g] == best_of[g] and best_of[g] > 0 for g in range(len(real)))
            if not forced and 0.3 <= best < 0.7:
                continue
            is_object = forced or best >= 0.7
            x = float(logits[n, m])
            count += 1
            cross_entropy += math.log1p(math.exp(-x if is_object else x))
            if is_object:
                wanted = encode(real[ious[m].index(best)], anchor, config.weights)
                regression += sum(
                    smooth_l1(float(d) - w, config.beta) for d, w in zip(deltas[n, m], wanted, strict=True)
                )
    assert count > 100
    assert regression > 0
    assert float(got["loss_objectness"]) == pytest.approx(cross_entropy / count, rel=1e-5)
    assert float(got["loss_rpn_box_reg"]) == pytest.approx(2 * regression / count, rel=1e-5)


def iou(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    inside = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
    return float((inside / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inside)).float())


def test_proposals_are_labelled_by_their_best_ground_truth() -> None:
    config = RoIConfig(samples=64, positives=0.25)
    truth = truth_of(4, 0)
    proposals = torch.stack([random_boxes(60), random_boxes(60)])
    proposals[0, :20] = truth.boxes[0].repeat(5, 1) + torch.rand(20, 4)
    counts = torch.tensor([40, 10])  # the rest must never be drawn
    drawn = t.sample_proposals(proposals, counts, truth, config)
    assert drawn.boxes.shape == (2, 64, 4)
    for n in range(2):
        real = truth.boxes[n, : truth.counts[n]]
        allowed = [*proposals[n, : counts[n]].tolist(), *real.tolist()]
        for box, c, delta in zip(drawn.boxes[n], drawn.classes[n].tolist(), drawn.deltas[n], strict=True):
            if c == t.IGNORED:
                continue
            assert box.tolist() in allowed
            ious = [iou(box, g) for g in real]
            best = max(ious, default=0.0)
            assert c == (int(truth.labels[n, ious.index(best)]) + 1 if best >= 0.5 else 0)
            if c > 0:
                torch.testing.assert_close(
                    delta, torch.tensor(encode(real[ious.index(best)], box, config.weights)), rtol=1e-4, atol=1e-4
                )
    assert 0 < int((drawn.classes[0] > 0).sum()) <= 16
    assert int((drawn.classes[1] == 0).sum()) == 10  # all that there was


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_roi_losses_equal_a_plain_loop(agnostic: bool, beta: float) -> None:
    classes = torch.tensor([[0, 2, -1, 3], [1, 0, 0, -1]])
    wanted, boxes = torch.randn(2, 4, 4), torch.zeros(2, 4, 4)
    wanted[0, 2] = math.nan  # an unused slot may hold anything
    logits, deltas = torch.randn(2, 4, 4), torch.randn(2, 4, 4 if agnostic else 12, requires_grad=True)
    got = mean_losses(t.roi_losses(logits, deltas, t.Sample(boxes, classes, wanted), RoIConfig(beta=beta)))
    cross_entropy, regression = 0.0, 0.0
    for n in range(2):
        for s in range(4):
            c = int(classes[n, s])
            if c < 0:
                continue
            cross_entropy -= float(logits[n, s].log_softmax(0)[c])
            if c > 0:
                own = deltas[n, s] if agnostic else deltas[n, s, 4 * c - 4 : 4 * c]
                regression += sum(
                    smooth_l1(float(d - w), beta) for d, w in zip(own.detach(), wanted[n, s], strict=True)
                )
    assert float(got["loss_classifier"]) == pytest.approx(cross_entropy / 6, rel=1e-5)
    assert float(got["loss_box_reg"]) == pytest.approx(regression / 6, rel=1e-5)
    got["loss_box_reg"].backward()
    assert deltas.grad is not None
    assert deltas.grad.isfinite().all()


def test_an_image_without_objects_gives_finite_losses() -> None:
    truth = truth_of(0)
    drawn = t.sample_proposals(random_boxes(0)[None], torch.tensor([0]), truth, RoIConfig(samples=8))
    assert (drawn.classes == t.IGNORED).all()
    losses = t.roi_losses(
        torch.zeros(1, drawn.classes.shape[1], 4), torch.zeros(1, drawn.classes.shape[1], 12), drawn, RoIConfig()
    )
    assert all(float(loss) == 0 for loss in mean_losses(losses).values())
