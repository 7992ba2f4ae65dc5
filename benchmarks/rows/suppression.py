"""NMS in all its variants, and the two operators that end in it: proposals and RoI detections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.measuring import data
from benchmarks.peers import OpenVino, openvino, optional, torchvision
from pyrcnn import ops

OPERATIONS_PER_IOU = 13


def check_same_boxes(ours: Any, theirs: Any, name: str) -> None:
    """The same kept boxes; OpenVINO may differ for the few pairs whose IoU is the threshold up to rounding."""
    if name == "torchvision":
        assert ours.tolist() == theirs.tolist()
    elif name == "openvino":
        check_same_set(ours, theirs[:, 2], name)


def check_same_set(ours: Any, theirs: Any, name: str) -> None:
    a, b = set(ours.tolist()), set((theirs[:, 2] if theirs.dim() == 2 else theirs).tolist())
    assert len(a ^ b) <= 0.01 * len(a) + 2


def nms_in_openvino(
    boxes: torch.Tensor, scores: torch.Tensor, threshold: float, labels: torch.Tensor | None = None
) -> OpenVino | None:
    """NonMaxSuppression; boxes are shifted by class, as its users do when each box has one class."""

    def build(o: Any, b: Any, s: Any, *labels: Any) -> Any:
        if labels:
            apart = o.multiply(o.convert(labels[0], "f32"), np.float32(float(boxes.max()) + 1))
            b = o.add(b, o.unsqueeze(o.unsqueeze(apart, np.int64(0)), np.int64(2)))
        most, cut = np.int64(boxes.shape[0]), np.float32(-1)
        return o.non_max_suppression(b, s, most, np.float32(threshold), cut, box_encoding="corner").output(0)

    return openvino(build, [boxes[None], scores[None, None], *([] if labels is None else [labels])])


def pairs_tested(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> float:
    """IoU tests of greedy suppression without pruning: each kept box is tested against every worse box."""
    order = scores.argsort(descending=True, stable=True)
    kept = ops.nms(boxes, scores, threshold)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel(), device=order.device)
    return float((order.numel() - rank[kept]).sum())


@pytest.mark.parametrize(
    ("kind", "count", "threshold"),
    [
        ("rpn", 100, 0.7),
        ("rpn", 1000, 0.7),
        ("rpn", 5000, 0.7),
        ("rpn", 20000, 0.7),
        ("random", 1000, 0.5),
        ("random", 20000, 0.5),
        ("crowded", 1000, 0.5),
        ("crowded", 20000, 0.5),
    ],
)
def bench_nms(compare, device, kind: str, count: int, threshold: float) -> None:
    make = {"rpn": data.rpn_boxes, "random": data.random_boxes, "crowded": data.crowded_boxes}[kind]
    boxes, scores = make(count, device)
    tv, powerboxes = torchvision(), optional("powerboxes")
    b, s = boxes.double().cpu().numpy(), scores.double().cpu().numpy()
    compare(
        lambda: ops.nms(boxes, scores, threshold),
        {
            "torchvision": tv and (lambda: tv.ops.nms(boxes, scores, threshold)),
            "powerboxes": (
                powerboxes and device.type == "cpu" and count <= 5000 and (lambda: powerboxes.nms(b, s, threshold, 0.0))
            )
            or None,
            "openvino": nms_in_openvino(boxes, scores, threshold),
        },
        agree=check_same_boxes,
        bytes=count * 28,
        operations=OPERATIONS_PER_IOU * pairs_tested(boxes, scores, threshold) / 4,
    )


@pytest.mark.parametrize(
    ("classes", "count", "threshold"), [(80, 1000, 0.5), (80, 5000, 0.5), (80, 20000, 0.5), (5, 5000, 0.7)]
)
def bench_batched_nms(compare, device, classes: int, count: int, threshold: float) -> None:
    boxes, scores = data.rpn_boxes(count, device)
    labels = torch.randint(classes, (count,), generator=torch.Generator().manual_seed(0)).to(device)
    tv = torchvision()
    compare(
        lambda: ops.batched_nms(boxes, scores, labels, threshold),
        {
            "torchvision": tv and (lambda: tv.ops.batched_nms(boxes, scores, labels, threshold)),
            "openvino": nms_in_openvino(boxes, scores, threshold, labels),
        },
        agree=check_same_set,
        bytes=count * 36,
    )


@pytest.mark.parametrize(("images", "count"), [(1, 1000), (8, 1000)])
def bench_nms_padded(compare, device, images: int, count: int) -> None:
    boxes, scores = data.rpn_boxes(count, device)
    boxes, scores = boxes.expand(images, -1, -1).contiguous(), scores.expand(images, -1).contiguous()
    tv = torchvision()
    compare(
        lambda: ops.nms_padded(boxes, scores, 0.7, 300),
        {
            "torchvision, a loop": tv
            and (lambda: [tv.ops.nms(b, s, 0.7)[:300] for b, s in zip(boxes, scores, strict=True)])
        },
        bytes=images * count * 28,
    )


@pytest.mark.parametrize(("images", "top"), [(1, 1000), (4, 1000), (2, 2000)])
def bench_generate_proposals(compare, device, images: int, top: int) -> None:
    objectness, deltas, cells = data.rpn_outputs(device, images)
    strides = [s for s, _, _ in data.RPN_LEVELS]
    sizes = torch.tensor([[800.0, 1333.0]] * images, device=device)
    compare(
        lambda: ops.generate_proposals(objectness, deltas, cells, strides, sizes, top, top, 0.7),
        {
            "torchvision": _torchvision_proposals(objectness, deltas, cells, images, top, device),
            "openvino": _openvino_proposals(objectness, deltas, cells, top) if images == 1 else None,
        },
        agree=_check_same_proposals,
        bytes=sum(o.numel() * o.element_size() for o in objectness) + images * top * 5 * 32,
    )


def _torchvision_proposals(objectness, deltas, cells, images, top, device):
    """torchvision's RPN after its head: anchors, decoding and filter_proposals."""
    tv = torchvision()
    if tv is None:
        return None
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList
    from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

    generator = AnchorGenerator(tuple((8 * s,) for s, _, _ in data.RPN_LEVELS), ((0.5, 1.0, 2.0),) * 5)
    generator.cell_anchors = cells
    n = {"training": top, "testing": top}
    rpn = RegionProposalNetwork(generator, torch.nn.Identity(), 0.7, 0.3, 256, 0.5, n, n, 0.7).eval()
    batch = ImageList(torch.empty(images, 3, 800, 1344, device=device), [(800, 1333)] * images)
    counts = [o[0].numel() for o in objectness]

    def call():
        anchors = rpn.anchor_generator(batch, objectness)
        logits, flat = concat_box_prediction_layers(list(objectness), list(deltas))
        boxes = rpn.box_coder.decode(flat.detach(), anchors).view(images, -1, 4)
        return rpn.filter_proposals(boxes, logits, batch.image_sizes, counts)

    return call


def _openvino_proposals(objectness, deltas, cells, top):
    """GenerateProposals per level, then the best of all levels, for one image; the anchors are built before."""
    maps, strides = [d.shape[-2:] for d in deltas], [s for s, _, _ in data.RPN_LEVELS]
    grids = ops.grid_anchors(maps, strides, cells)
    sizes = torch.tensor([[800.0, 1333.0, 1.0]], device=objectness[0].device)

    def build(o, info, *inputs):
        levels = []
        for a, d, s in zip(inputs[0::3], inputs[1::3], inputs[2::3], strict=True):
            levels.append(o.generate_proposals(info, a, d, o.sigmoid(s), 0.0, 0.7, top, top))
        boxes, scores = (o.concat([level.output(i) for level in levels], 0) for i in (0, 1))
        best = o.topk(scores, o.minimum(o.squeeze(o.shape_of(scores), np.int64(0)), np.int64(top)), 0, "max", "value")
        return [o.gather(boxes, best.output(1), np.int64(0)).output(0), best.output(0)]

    inputs = [
        t for (h, w), a, d, s in zip(maps, grids, deltas, objectness, strict=True) for t in (a.view(h, w, -1, 4), d, s)
    ]
    peer = openvino(build, [sizes, *inputs])
    return peer and (lambda: [[output] for output in peer()])


def _check_same_proposals(ours: Any, theirs: Any, name: str) -> None:
    """The same boxes, except the few whose IoU is the threshold up to rounding."""
    boxes, _, counts = ours
    for i, expected in enumerate(theirs[0]):
        assert abs(int(counts[i]) - len(expected)) <= 2
        nearest = torch.cdist(boxes[i, : counts[i]], expected, p=float("inf")).amin(1)
        assert (nearest < 0.05).float().mean() > 0.99


@pytest.mark.parametrize(("proposals", "classes", "threshold"), [(1000, 90, 0.05), (1000, 90, 0.001), (300, 20, 0.05)])
def bench_roi_detections(compare, device, proposals: int, classes: int, threshold: float) -> None:
    logits, deltas, boxes = data.class_scores(proposals, classes, device)
    counts = torch.tensor([proposals], device=device)
    sizes = torch.tensor([[800.0, 1333.0]], device=device)
    tv = torchvision()
    peer = None
    if tv is not None:
        from torchvision.models.detection.roi_heads import RoIHeads

        heads = RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, None, threshold, 0.5, 100)
        heads.box_similarity = None
        peer = lambda: heads.postprocess_detections(logits, deltas, [boxes], [(800, 1333)])  # noqa: E731
    compare(
        lambda: ops.roi_detections(logits[None], deltas[None], boxes[None], counts, sizes, score_threshold=threshold),
        {"torchvision": peer},
        agree=_check_same_detections,
        bytes=logits.numel() * 4,
    )


def _check_same_detections(ours: Any, theirs: Any, name: str) -> None:
    _, scores, labels, counts = ours
    n = int(counts[0])
    assert n == len(theirs[1][0])
    torch.testing.assert_close(scores[0, :n], theirs[1][0], rtol=1e-4, atol=1e-5)
    assert (labels[0, :n] + 1 == theirs[2][0]).float().mean() > 0.98
