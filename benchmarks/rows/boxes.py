"""Box encoding, decoding, matching and IoU."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.measuring import data
from benchmarks.peers import COMPILED, compile_static, torchvision
from pyrcnn import ops

DELTA_CLIP = math.log(1000 / 16)
ANCHORS = 268_569  # the five levels at 800 x 1344, three per cell


def check_close(ours: Any, theirs: Any, name: str) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """As usually written in torch."""
    w, h = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    x, y = anchors[:, 0] + 0.5 * w, anchors[:, 1] + 0.5 * h
    cx, cy = deltas[:, 0] * w + x, deltas[:, 1] * h + y
    bw, bh = deltas[:, 2].clamp(max=DELTA_CLIP).exp() * w, deltas[:, 3].clamp(max=DELTA_CLIP).exp() * h
    return torch.stack([cx - 0.5 * bw, cy - 0.5 * bh, cx + 0.5 * bw, cy + 0.5 * bh], 1)


@pytest.mark.parametrize("count", [4819, ANCHORS])
def bench_decode_boxes(compare, device, count: int) -> None:
    anchors, _ = data.rpn_boxes(count, device)
    deltas = torch.randn(count, 4, device=device) * 0.2
    fused = compile_static(decode)
    compare(
        lambda: ops.decode_boxes(deltas, anchors),
        {"torch": lambda: decode(deltas, anchors), COMPILED: fused and (lambda: fused(deltas, anchors))},
        agree=check_close,
        bytes=count * 48,
    )


@pytest.mark.parametrize("calls", ["one", "two"])
def bench_decode_and_clip(compare, device, calls: str) -> None:
    """``decode_boxes`` with a size to clip to, and the two functions that users of torchvision call."""
    anchors, _ = data.rpn_boxes(ANCHORS, device)
    deltas = torch.randn(ANCHORS, 4, device=device) * 0.2
    tv = torchvision()

    def in_torch(deltas: Tensor, anchors: Tensor) -> Tensor:
        boxes = decode(deltas, anchors)
        return torch.stack([boxes[:, 0::2].clamp(0, 1333), boxes[:, 1::2].clamp(0, 800)], 2).flatten(1)

    fused = compile_static(in_torch)
    ours = {
        "one": lambda: ops.decode_boxes(deltas, anchors, size=(800, 1333)),
        "two": lambda: ops.clip_boxes_to_image(ops.decode_boxes(deltas, anchors), (800, 1333)),
    }
    compare(
        ours[calls],
        {
            "torchvision": tv and (lambda: tv.ops.clip_boxes_to_image(decode(deltas, anchors), (800, 1333))),
            COMPILED: fused and (lambda: fused(deltas, anchors)),
        },
        agree=check_close,
        bytes=ANCHORS * 48,
    )


def bench_decode_anchors(compare, device) -> None:
    """Anchors, decoding and clipping in one pass, beside building the anchors and then decoding."""
    _, deltas, cells = data.rpn_outputs(device)
    sizes = torch.tensor([[800.0, 1333.0]], device=device)
    strides = [s for s, _, _ in data.RPN_LEVELS]
    maps = [d.shape[-2:] for d in deltas]

    def anchors() -> Tensor:
        return torch.cat(ops.grid_anchors(maps, strides, cells))

    def in_torch(deltas: list[Tensor], anchors: Tensor) -> Tensor:
        flat = [d.view(1, 3, 4, *d.shape[-2:]).permute(0, 3, 4, 1, 2).reshape(-1, 4) for d in deltas]
        boxes = decode(torch.cat(flat), anchors)
        return torch.stack([boxes[:, 0::2].clamp(0, 1333), boxes[:, 1::2].clamp(0, 800)], 2).flatten(1)

    fused = compile_static(in_torch)
    compare(
        lambda: ops.decode_anchors(deltas, cells, strides, sizes),
        {"torch": lambda: in_torch(deltas, anchors()), COMPILED: fused and (lambda: fused(deltas, anchors()))},
        bytes=ANCHORS * 32,
    )


def bench_match_boxes(compare, device) -> None:
    anchors, _ = data.rpn_boxes(ANCHORS, device)
    truth, _ = data.rpn_boxes(30, device)
    tv = torchvision()
    peer = None
    if tv is not None:
        from torchvision.models.detection._utils import Matcher

        matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
        peer = lambda: matcher(tv.ops.box_iou(truth, anchors))  # noqa: E731
    counts = torch.tensor([30], device=device)

    def in_torch(truth: Tensor, anchors: Tensor) -> Tensor:
        corner = torch.maximum(truth[:, None, :2], anchors[:, :2])
        w, h = (torch.minimum(truth[:, None, 2:], anchors[:, 2:]) - corner).clamp(min=0).unbind(2)
        areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (truth, anchors)]
        iou = w * h / (areas[0][:, None] + areas[1] - w * h)
        best, index = iou.max(0)
        state = torch.where(best < 0.3, -1, torch.where(best < 0.7, -2, index))
        return torch.where((iou == iou.amax(1, keepdim=True)).any(0), index, state)

    def agree(ours: Any, theirs: Any, name: str) -> None:
        matched = torch.where(ours.states[0] == 1, ours.indices[0], ours.states[0].long() - 1)
        assert (matched == theirs).float().mean() > 0.9999

    fused = compile_static(in_torch)
    compare(
        lambda: ops.match_boxes(anchors, truth[None], 0.7, 0.3, True, counts=counts),
        {"torchvision": peer, COMPILED: fused and (lambda: fused(truth, anchors))},
        agree=agree,
        bytes=ANCHORS * 28,
        operations=30 * ANCHORS * 13,
    )


@pytest.mark.parametrize(("a", "b"), [(1000, 1000)])
def bench_box_iou(compare, device, a: int, b: int) -> None:
    first, second = data.rpn_boxes(a, device)[0], data.rpn_boxes(b, device)[0]
    tv = torchvision()
    compare(
        lambda: ops.box_iou(first, second),
        {"torchvision": tv and (lambda: tv.ops.box_iou(first, second))},
        agree=check_close,
        bytes=4 * a * b,
    )
