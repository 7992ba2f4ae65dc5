"""Box coding, anchors and matching, beyond the contract of every operator."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyrcnn import InputError, ops
from pyrcnn.ops.box_iou import intersection_and_union
from tests.cases import FLOATS


def random_boxes(count: int, generator: torch.Generator, size: float = 600.0) -> Tensor:
    centre = torch.rand(count, 2, generator=generator) * size
    half = torch.rand(count, 2, generator=generator) * 60 + 2
    return torch.cat([centre - half, centre + half], 1)


def levels() -> tuple[list[tuple[int, int]], list[int], list[Tensor]]:
    cells = []
    for size in (32.0, 64.0):
        shapes = torch.tensor([[size * 1.4, size * 0.7], [size, size], [size * 0.7, size * 1.4]])
        cells.append(torch.cat([-shapes / 2, shapes / 2], 1))
    return [(75, 83), (38, 42)], [8, 16], cells


def match_by_matrix(anchors: Tensor, truths: Tensor, high: float, low: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return torchvision's and detectron2's matching, computed with the whole matrix of IoUs."""
    iou = ops.box_iou(truths, anchors)
    best, index = iou.max(dim=0)
    state = torch.where(best >= high, 1, torch.where(best < low, 0, -1))
    greatest = iou.max(dim=1).values
    state[((iou == greatest[:, None]) & (greatest[:, None] > 0)).any(dim=0)] = 1
    return torch.where(best > 0, index, 0), state.to(torch.int8), best


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matching_equals_the_matrix_bit_for_bit(dtype: torch.dtype, device, generator) -> None:
    sizes, strides, cells = levels()
    anchors = torch.cat(ops.grid_anchors(sizes, strides, cells)).to(device, dtype)
    truths = random_boxes(30, generator).to(device, dtype)
    for got, want in zip(ops.match_boxes(anchors, truths, 0.7, 0.3, True), match_by_matrix(anchors, truths, 0.7, 0.3)):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_every_overlapped_ground_truth_gets_an_anchor(device, generator) -> None:
    sizes, strides, cells = levels()
    anchors = torch.cat(ops.grid_anchors(sizes, strides, cells)).to(device)
    centre = torch.rand(40, 2, generator=generator) * 500 + 50
    small = torch.cat([centre, centre + 3], 1).to(device)  # far below `low` with every anchor
    matches = ops.match_boxes(anchors, small, 0.7, 0.3, True)
    assert set(matches.indices[matches.states == 1].tolist()) == set(range(40))
    assert not ops.match_boxes(anchors, small, 0.7, 0.3, False).states.any()


def test_a_low_quality_match_keeps_its_own_best_ground_truth(device) -> None:
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]], device=device)
    truths = torch.tensor([[0.0, 0.0, 10.0, 6.0], [0.0, 0.0, 10.0, 3.0]], device=device)  # IoU 0.6 and 0.3
    matches = ops.match_boxes(anchors, truths, 0.7, 0.4, True)
    assert matches.states.tolist() == [1]
    assert matches.indices.tolist() == [0]


def test_a_ground_truth_without_overlap_matches_no_anchor(device) -> None:
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]], device=device)
    far = torch.tensor([[500.0, 500.0, 510.0, 510.0]], device=device)
    assert ops.match_boxes(anchors, far, 0.7, 0.3, True).states.tolist() == [0, 0]


def test_no_ground_truth_is_background_even_with_low_zero(device) -> None:
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]], device=device)
    truths = torch.zeros(1, 3, 4, device=device)
    matches = ops.match_boxes(anchors, truths, 0.5, 0.0, True, counts=torch.tensor([0], device=device))
    assert matches.states.tolist() == [[0]]


def test_padding_is_never_matched(device) -> None:
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]], device=device)
    truths = anchors.expand(1, 2, 4).clone()
    truths[0, 0] += 3
    counts = torch.tensor([1], device=device)
    assert ops.match_boxes(anchors, truths, 0.9, 0.3, counts=counts).states.tolist() == [[-1]]
    assert ops.match_boxes(anchors, truths, 0.9, 0.3).indices.tolist() == [[1]]


def test_crowds_are_ignored_in_training(device) -> None:
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 40.0], [90.0, 90.0, 99.0, 99.0]], device=device)
    crowd = torch.tensor([[0.0, 0.0, 20.0, 20.0], [90.0, 90.0, 99.0, 99.0]], device=device)
    is_crowd = torch.tensor([True, False], device=device)
    matches = ops.match_boxes(anchors, crowd, 0.7, 0.3, crowd=is_crowd)
    assert matches.states.tolist() == [-1, 0, 1]  # inside the crowd, half inside, outside
    assert matches.indices.tolist() == [0, 0, 1]


def test_nan_anchors_are_not_matched(device, generator) -> None:
    anchors, truths = random_boxes(200, generator).to(device), random_boxes(9, generator).to(device)
    out = torch.arange(200, device=device) % 3 == 0
    masked = torch.where(out[:, None], math.nan, anchors)
    whole, part = (
        ops.match_boxes(masked, truths, 0.5, 0.3, True),
        ops.match_boxes(anchors[~out], truths, 0.5, 0.3, True),
    )
    for a, b in zip(whole, part, strict=True):
        assert torch.equal(a[~out], b)
    assert not whole.states[out].any()


def test_images_are_matched_independently(device, generator) -> None:
    anchors = random_boxes(3000, generator).to(device)
    truths = torch.stack([random_boxes(12, generator) for _ in range(3)]).to(device)
    counts = torch.tensor([12, 5, 0], device=device)
    together = ops.match_boxes(anchors, truths, 0.5, 0.4, True, counts=counts)
    for n in range(3):
        alone = ops.match_boxes(anchors, truths[n, : counts[n]], 0.5, 0.4, True)
        for a, b in zip(together, alone, strict=True):
            assert torch.equal(a[n], b)


def test_decoding_inverts_encoding(device, generator) -> None:
    anchors, boxes = random_boxes(500, generator).to(device).double(), random_boxes(500, generator).to(device).double()
    weights = (10.0, 10.0, 5.0, 5.0)
    deltas = ops.encode_boxes(boxes, anchors, weights)
    torch.testing.assert_close(ops.decode_boxes(deltas, anchors, weights, clip=math.inf), boxes)


def test_growth_is_limited_by_default(device) -> None:
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]], device=device)
    delta = torch.tensor([[0.0, 0.0, 5.0, 5.0]], device=device)
    width = ops.decode_boxes(delta, anchor)[0, 2] - ops.decode_boxes(delta, anchor)[0, 0]
    assert width.item() == pytest.approx(1000, rel=1e-5)
    free = ops.decode_boxes(delta, anchor, clip=math.inf)
    assert (free[0, 2] - free[0, 0]).item() == pytest.approx(16 * math.exp(5), rel=1e-5)


def test_decoding_clips_in_the_same_pass(device, generator) -> None:
    anchors, size = random_boxes(301, generator).to(device), (70.0, 90.5)
    deltas = torch.randn(301, 4, generator=generator).to(device)
    deltas[7] = math.nan
    gradients = []
    for clip in (
        lambda: ops.decode_boxes(deltas, anchors, size=size),
        lambda: ops.clip_boxes_to_image(ops.decode_boxes(deltas, anchors), size),
    ):
        deltas, anchors = (t.detach().requires_grad_() for t in (deltas, anchors))
        boxes = clip()
        gradients.append(
            (boxes, *torch.autograd.grad((boxes * torch.arange(4, device=device)).sum(), (deltas, anchors)))
        )
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.equal(ours.nan_to_num(nan=-7.0), theirs.nan_to_num(nan=-7.0))
    assert (gradients[0][0] == 0).any()
    assert (gradients[0][0][:, 2] == 90.5).any()
    with pytest.raises(InputError, match="size"):
        ops.decode_boxes(deltas, anchors, size=(70.0,))


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_half_deltas_with_float32_anchors_give_float32(low: torch.dtype, device, generator) -> None:
    anchors = random_boxes(70, generator).to(device)
    deltas = torch.randn(70, 4, generator=generator).to(device, low).requires_grad_()
    boxes = ops.decode_boxes(deltas, anchors)
    assert boxes.dtype == torch.float32
    assert torch.equal(boxes, ops.decode_boxes(deltas.float(), anchors))
    boxes.sum().backward()
    assert deltas.grad is not None
    assert deltas.grad.dtype == low
    assert ops.decode_boxes(deltas, anchors.double()).dtype == torch.float64


@pytest.mark.parametrize("value", [1e-40, 1e-38, 0.1, 0.70710677, 1.0, 1.0000001, 2.0, 3e38])
def test_logarithms_are_accurate_to_the_last_bits(value: float, device) -> None:
    unit = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=device)
    box = torch.tensor([[0.0, 0.0, value, value]], device=device)
    got = (
        ops.encode_boxes(box.expand(9, 4), unit.expand(9, 4))[:, 2].cpu().double()
    )  # whole SIMD packs and the remainder
    want = math.log(torch.tensor(value, dtype=torch.float32).double().item())
    torch.testing.assert_close(got, torch.full_like(got, want), rtol=3e-7, atol=0)


def test_anchors_are_not_copied_for_every_class(device) -> None:
    from pyrcnn.ops._pairing import broadcast_anchors

    rows, anchors = torch.zeros(5, 7, 4, device=device), torch.zeros(5, 1, 4, device=device)
    assert broadcast_anchors("deltas", rows, anchors)[1:] == (anchors, 7)
    rows, anchors = torch.zeros(2, 5, 4, device=device), torch.zeros(5, 4, device=device)
    assert broadcast_anchors("deltas", rows, anchors)[1:] == (anchors, 1)


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_fused_anchors_equal_the_separate_steps(dtype: torch.dtype, format_, device, generator) -> None:
    sizes, strides, cells = levels()
    cells = [c.to(device, torch.float64 if dtype == torch.float64 else torch.float32) for c in cells]
    maps = [torch.randn(2, 12, h, w, generator=generator).to(device, dtype) for h, w in sizes]
    maps = [m.contiguous(memory_format=format_) for m in maps]
    image_sizes = torch.tensor([[500, 600], [600, 410]], device=device)
    fused = ops.decode_anchors(maps, cells, strides, image_sizes)
    anchors = torch.cat(ops.grid_anchors(sizes, strides, cells))
    rows = [m.reshape(2, 3, 4, -1).permute(0, 3, 1, 2).reshape(2, -1, 4) for m in maps]
    boxes = ops.decode_boxes(torch.cat(rows, 1), anchors)
    for n in range(2):
        assert torch.equal(fused[n], ops.clip_boxes_to_image(boxes[n], tuple(image_sizes[n].tolist())))


def test_remove_small_boxes(device) -> None:
    boxes = torch.tensor(
        [[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.9], [0.0, 0.0, 9.0, 9.0], [5.0, 5.0, 1.0, 1.0]], device=device
    )
    assert ops.remove_small_boxes(boxes, 4.0).tolist() == [0, 2]
    assert ops.remove_small_boxes(boxes[:0], 4.0).tolist() == []


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.bfloat16])
def test_masks_to_boxes(dtype: torch.dtype, device, generator) -> None:
    masks = torch.randint(0, 40, (30, 23, 31), generator=generator) == 0
    masks[::3] &= torch.rand(10, 23, 31, generator=generator) > 0.98  # few pixels, or none
    masks[3] = False
    masks[4] = True
    want = []
    for mask in masks:
        ys, xs = torch.nonzero(mask, as_tuple=True)
        want.append([xs.min(), ys.min(), xs.max(), ys.max()] if len(ys) else [0.0] * 4)
    given = masks.to(device, dtype)
    if dtype == torch.uint8:
        given = given * 3  # 3 is part of the mask too
    got = ops.masks_to_boxes(given)
    assert got.dtype == torch.float32
    assert got.tolist() == torch.tensor(want).tolist()
    assert torch.equal(ops.masks_to_boxes(given.mT).cpu(), torch.tensor(want)[:, [1, 0, 3, 2]])


def test_masks_without_elements_and_of_wrong_shapes(device) -> None:
    for shape in ((0, 5, 6), (3, 0, 6), (0,)):
        assert ops.masks_to_boxes(torch.zeros(shape, device=device)).shape == (0, 4)
    with pytest.raises(InputError, match=r"masks must be \[N, H, W\], got \[5, 6\]"):
        ops.masks_to_boxes(torch.zeros(5, 6, device=device))


def test_integer_boxes_are_accepted(device) -> None:
    boxes = torch.tensor([[0, 0, 200, 200], [100, 0, 250, 250]], device=device, dtype=torch.uint8)
    assert ops.box_area(boxes).tolist() == [40000, 37500]
    assert ops.box_iou(boxes, boxes)[0, 1].item() == pytest.approx(20000 / 57500)


def in_torch(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    intersection, union = intersection_and_union(boxes1, boxes2)
    return intersection / union


def differentiable(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return the same with an explicit gradient at 0: torch's versions differ in that of ``clamp`` at its bound."""
    low = torch.max(boxes1[..., :, None, :2], boxes2[..., None, :, :2])
    size = torch.min(boxes1[..., :, None, 2:], boxes2[..., None, :, 2:]) - low
    w, h = torch.where(size >= 0, size, size.detach().clamp(min=0)).unbind(-1)
    union = ops.box_area(boxes1)[..., :, None] + ops.box_area(boxes2)[..., None, :] - w * h
    return w * h / union


@pytest.mark.parametrize("dtype", FLOATS)
def test_iou_has_the_bits_of_torchs_arithmetic(dtype: torch.dtype, device, generator) -> None:
    """The boxes include equal coordinates, empty and inverted boxes, infinities and NaN."""
    rough = torch.randint(-3, 4, (301, 4), generator=generator).to(dtype)
    wild = torch.tensor([math.inf, -math.inf, math.nan, 6e4, 0.1, -0.0, 2.0], dtype=dtype)
    rough[::5] = wild[torch.randint(7, (61, 4), generator=generator)]
    boxes1, boxes2 = (b.to(device) for b in (rough, torch.cat([random_boxes(60, generator).to(dtype), rough[::3]])))
    torch.testing.assert_close(ops.box_iou(boxes1, boxes2), in_torch(boxes1, boxes2), rtol=0, atol=0, equal_nan=True)


def test_the_gradient_of_iou_is_torchs_at_kinks_and_poles(device, generator) -> None:
    boxes1, boxes2 = (torch.randint(0, 4, (n, 4), generator=generator).double().to(device) for n in (40, 70))
    boxes2[3] = math.nan
    for pair in ((boxes1, boxes2), (boxes2, boxes1), (boxes1[:1], boxes2[4:5])):
        leaves = [b.clone().requires_grad_() for b in pair]
        weights = torch.randn(pair[0].shape[0], pair[1].shape[0], generator=generator, dtype=torch.float64).to(device)
        ours = torch.autograd.grad(ops.box_iou(*leaves), leaves, weights)
        theirs = torch.autograd.grad(differentiable(*leaves), leaves, weights)
        torch.testing.assert_close(ours, theirs, equal_nan=True)


def test_single_pairs_have_torchs_gradient(device) -> None:
    """One pair at a time: in a sum, one NaN would hide the other gradients."""
    sides = torch.cartesian_prod(*[torch.arange(3.0, device=device)] * 4)
    boxes1, boxes2 = (b.reshape(-1, 1, 4).double() for b in (sides.repeat(81, 1), sides.repeat_interleave(81, 0)))
    leaves = [b.clone().requires_grad_() for b in (boxes1, boxes2)]
    weights = torch.full((81 * 81, 1, 1), 0.75, device=device, dtype=torch.float64)
    ours = torch.autograd.grad(ops.box_iou(*leaves), leaves, weights)
    theirs = torch.autograd.grad(differentiable(*leaves), leaves, weights)
    torch.testing.assert_close(ours, theirs, equal_nan=True)


def test_iou_of_batches_that_broadcast_other_formats_and_mixed_dtypes(device, generator) -> None:
    boxes1, boxes2 = random_boxes(6, generator).to(device), random_boxes(10, generator).to(device)
    several = boxes2.view(2, 5, 4)
    torch.testing.assert_close(ops.box_iou(boxes1, several)[1], ops.box_iou(boxes1, several[1]), rtol=0, atol=0)
    want = ops.box_iou(boxes1, boxes2)
    for fmt in ("xywh", "cxcywh"):
        converted = (ops.box_convert(b, "xyxy", fmt) for b in (boxes1, boxes2))
        torch.testing.assert_close(ops.box_iou(*converted, fmt=fmt), want)
    assert ops.box_iou(boxes1, boxes2.double()).dtype == torch.float64
    torch.testing.assert_close(torch.vmap(ops.box_iou, (None, 0))(boxes1, several), ops.box_iou(boxes1, several))


def test_errors_have_the_types_that_callers_of_torchvision_catch() -> None:
    for kind in (ValueError, RuntimeError, AssertionError, InputError):
        with pytest.raises(kind, match="Unsupported"):
            ops.box_convert(torch.zeros(1, 4), "xyxy", "nothing")


@pytest.mark.parametrize("op", [ops.decode_boxes, ops.encode_boxes])
def test_no_second_derivatives(op, device) -> None:
    rows = torch.tensor([[0.0, 0, 4, 5]], device=device, requires_grad=True)
    (grad,) = torch.autograd.grad(op(rows, rows.detach()).square().sum(), rows, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        grad.sum().backward()
