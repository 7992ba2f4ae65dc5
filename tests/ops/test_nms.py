"""Suppression beyond the contract: exact to the last bit, ties, torchvision's special cases, all instruction sets."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess

import pytest
import torch
from torch import Tensor

from pyrcnn import InputError, build_info
from pyrcnn.ops import batched_nms, nms, nms_padded
from tests.cases import FLOATS
from tests.cases.nms import hostile_rows
from tests.conftest import python
from tests.reference import nms as reference

ISAS = ("default", "avx2", "avx512")


def scattered_boxes(generator: torch.Generator, count: int) -> Tensor:
    """Return boxes of many sizes, most of which are kept."""
    middle, sizes = torch.rand(count, 2, generator=generator), torch.rand(count, 2, generator=generator)
    sizes = 4 * torch.exp(3 * sizes)
    return torch.cat([middle * 1500 - sizes, middle * 1500 + sizes], 1)


def upcast(t: Tensor) -> Tensor:
    """Return ``t`` in the dtype that the operator computes in."""
    return t.cpu() if t.dtype == torch.float64 else t.cpu().float()


def clustered_boxes(
    generator: torch.Generator, count: int, size: float = 60.0, spread: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Return boxes as from an RPN: about 20 around each object."""
    centers = torch.rand(count // 20 + 1, 2, generator=generator) * 1000
    objects = torch.randint(0, len(centers), (count,), generator=generator)
    sizes = (torch.randn(len(centers), 2, generator=generator) * 0.7).exp()[objects] * size
    sizes = sizes * (torch.randn(count, 2, generator=generator) * 1.5 * spread).exp()
    middle = centers[objects] + torch.randn(count, 2, generator=generator) * sizes * spread
    return torch.cat([middle - sizes / 2, middle + sizes / 2], 1), torch.rand(count, generator=generator)


FAMILIES = {
    "clustered": lambda g, n: clustered_boxes(g, n)[0],
    "scattered": scattered_boxes,
    "overflowing_sums": lambda g, n: scattered_boxes(g, n) * 2e35,
    "inverted": lambda g, n: torch.rand(n, 4, generator=g) * 100,
    "grid": lambda g, n: torch.randint(0, 6, (n, 4), generator=g).float(),
    "degenerate": lambda g, n: clustered_boxes(g, n)[0] * torch.tensor([1.0, 1, 1, 0]) + torch.tensor([0.0, 5, 0, 5]),
    "subnormal_areas": lambda g, n: clustered_boxes(g, n)[0] * 1e-22,
    "subnormal_coordinates": lambda g, n: clustered_boxes(g, n)[0] * 1e-43,
    "overflowing_areas": lambda g, n: clustered_boxes(g, n)[0] * 1e17,
    "huge_coordinates": lambda g, n: clustered_boxes(g, n)[0] * 1e35,
    "hostile": lambda g, n: torch.cat(
        [hostile_rows(g, torch.device("cpu"), torch.float32)[0], clustered_boxes(g, n)[0]]
    )[:n],
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_definition_exactly(family: str, dtype: torch.dtype, device, generator) -> None:
    boxes = FAMILIES[family](generator, 200).to(device, dtype)
    scores = hostile_rows(generator, device, dtype)[1]
    for threshold in (0.5, 0.7, 1 / 3, 0.05, 1.0, 0.0, -0.5, 1e-4, 1e-30, 3.0, math.inf, -math.inf, math.nan):
        expected = reference.nms(upcast(boxes), upcast(scores), threshold)
        torch.testing.assert_close(nms(boxes, scores, threshold).cpu(), expected, rtol=0, atol=0)


def test_order_is_that_of_a_stable_descending_sort(device) -> None:
    for count in (1, 7, 16, 17, 100, 128, 129, 500, 3000):
        scores = (torch.randint(-20, 20, (count,)) / 8).to(device)
        scores[torch.rand(count) < 0.2] = -0.0
        scores[torch.rand(count) < 0.1] = math.nan
        scores[torch.rand(count) < 0.1] = -math.nan
        scores[torch.rand(count) < 0.1] = math.inf
        scores[torch.rand(count) < 0.1] = -math.inf
        apart = torch.arange(count, device=device)[:, None] * 2.0 + torch.tensor([0.0, 0, 1, 1], device=device)
        expected = torch.sort(scores, descending=True, stable=True).indices
        for dtype in (torch.float32, torch.float64):
            assert torch.equal(nms(apart.to(dtype), scores.to(dtype), 0.5), expected)
            kept = nms_padded(apart[None].to(dtype), scores[None].to(dtype), 0.5, count)[0][0]
            assert torch.equal(kept[kept >= 0], expected[scores[expected] > -math.inf])


def test_a_pair_at_the_threshold_stays(device) -> None:
    """IoU 1/2, 1/3, 7/10 and 3/5 in float32 against thresholds that round to the same float32 or the one below."""
    for inter, union, threshold in ((1, 2, 0.5), (1, 3, 1 / 3), (7, 10, 0.7), (3, 5, 0.6)):
        # The second box lies inside the first, so their IoU is the ratio of the widths.
        boxes = torch.tensor([[0.0, 0, union, 1], [0, 0, inter, 1]], device=device)
        scores = torch.tensor([0.9, 0.8], device=device)
        below = float(torch.nextafter(torch.tensor(threshold), torch.tensor(0.0)))
        assert nms(boxes, scores, threshold).tolist() == [0, 1]
        assert nms(boxes, scores, below).tolist() == [0]


def test_boxes_without_area_do_not_suppress_each_other(device) -> None:
    boxes = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 2, 2]], device=device)
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.0).tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_many_boxes_give_the_same_as_few(family: str, dtype: torch.dtype, device, generator) -> None:
    """Many boxes are indexed by place and size; boxes with groups are compared with all boxes of their group."""
    boxes = FAMILIES[family](generator, 2500).to(device, dtype)
    scores = torch.rand(2500, generator=generator).to(device, dtype)
    one_group = torch.zeros(1, 2500, dtype=torch.int64, device=device)
    for threshold in (0.7, 0.3, 0.01, 1.5):
        indices, counts = nms_padded(boxes[None], scores[None], threshold, 2500, groups=one_group)
        assert torch.equal(nms(boxes, scores, threshold), indices[0, : int(counts)])
        assert torch.equal(nms_padded(boxes[None], scores[None], threshold, 1000)[0], indices[:, :1000])


def test_a_hundred_thousand_boxes(device, generator) -> None:
    """Distant objects do not interact, so the result for many is the repeated result for few."""
    few, scores = clustered_boxes(generator, 200)
    kept = reference.nms(few, scores, 0.7)
    copies = 500
    shift = torch.arange(copies)[:, None, None] * torch.tensor([4096.0, 0, 4096, 0])
    many = (few.round() + shift).view(-1, 4).to(device)
    kept = reference.nms(few.round(), scores, 0.7)
    expected = (kept[:, None] + torch.arange(copies) * len(few)).flatten()
    assert torch.equal(nms(many, scores.repeat(copies).to(device), 0.7).cpu(), expected)
    idxs = torch.arange(copies).repeat_interleave(len(few)).to(device)
    crowded = few.round().repeat(copies, 1).to(device)
    assert torch.equal(batched_nms(crowded, scores.repeat(copies).to(device), idxs, 0.7).cpu(), expected)


@pytest.mark.parametrize("width", [640, 20_000, 100_000, 10_000_000])
def test_batched_is_nms_per_class_in_images_of_any_size(width: int, device, generator) -> None:
    """The usual method shifts the coordinates of each class, which loses their last bits in large images."""
    boxes, scores = clustered_boxes(generator, 3000)
    boxes, scores = (boxes + torch.rand(3000, 1, generator=generator) * width).to(device), scores.to(device)
    idxs = torch.randint(0, 40, (3000,), generator=generator).to(device)
    kept = torch.cat([rows[nms(boxes[rows], scores[rows], 0.6)] for c in range(40) for rows in (idxs == c).nonzero().T])
    expected = kept[scores[kept].argsort(descending=True, stable=True)]
    assert torch.equal(batched_nms(boxes, scores, idxs, 0.6), expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8, torch.float32, torch.float16])
def test_categories_of_any_dtype(dtype: torch.dtype, device, generator) -> None:
    boxes, scores = (t.to(device) for t in clustered_boxes(generator, 200))
    idxs = torch.randint(0, 9, (200,), generator=generator).to(device)
    assert torch.equal(batched_nms(boxes, scores, idxs.to(dtype), 0.5), batched_nms(boxes, scores, idxs, 0.5))


def test_negative_zero_is_the_category_zero(device) -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1]], device=device).repeat(2, 1)
    idxs = torch.tensor([0.0, -0.0], device=device)
    assert batched_nms(boxes, torch.ones(2, device=device), idxs, 0.5).tolist() == [0]


def test_scores_and_idxs_may_be_none_without_boxes(device) -> None:
    """torchvision reads no other argument if there are no boxes."""
    empty = torch.empty(0, dtype=torch.int64, device=device)
    assert torch.equal(batched_nms(empty, None, None, 0.5), empty)  # type: ignore[arg-type]


def test_devices_must_agree() -> None:
    with pytest.raises((InputError, NotImplementedError, RuntimeError)):
        nms(torch.zeros(2, 4), torch.zeros(2, device="meta"), 0.5)


def test_groups_do_not_change_the_order_or_the_stop(device, generator) -> None:
    boxes, scores = (t.to(device) for t in clustered_boxes(generator, 600))
    groups = torch.randint(-3, 300, (600,), generator=generator).to(device) * (2**55 + 1)
    full = batched_nms(boxes, scores, groups, 0.4)
    for limit in (1, 5, 100, len(full), len(full) + 50):
        indices, counts = nms_padded(boxes[None], scores[None], 0.4, limit, groups[None])
        taken = min(limit, len(full))
        assert counts.tolist() == [taken]
        assert torch.equal(indices[0, :taken], full[:taken])
        assert (indices[0, taken:] == -1).all()


def test_scores_at_the_score_threshold_are_left_out(device) -> None:
    boxes = torch.arange(5.0, device=device)[None, :, None] * 2 + torch.tensor([0.0, 0, 1, 1], device=device)
    scores = torch.tensor([[0.1, 0.3, math.nan, 0.5, 0.3]], device=device)
    indices, counts = nms_padded(boxes, scores, 0.5, 5, score_threshold=float(scores[0, 1]))
    assert indices.tolist() == [[3, -1, -1, -1, -1]]
    assert counts.tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_gives_boxes_and_scores_one_dtype(dtype: torch.dtype, device, generator) -> None:
    boxes, scores = (t.to(device) for t in clustered_boxes(generator, 100))
    scores = scores.to(dtype)
    with torch.autocast(device.type, dtype):
        kept = nms(boxes, scores, 0.5)
        assert torch.equal(batched_nms(boxes, scores, torch.zeros(100, device=device), 0.5), kept)
        indices, counts = nms_padded(boxes[None], scores[None], 0.5, 100)
    assert torch.equal(kept, nms(boxes, scores.float(), 0.5))
    assert torch.equal(indices[0, : int(counts)], kept)


def test_kept_indices_are_an_input_of_the_next_op_in_a_graph(device, generator) -> None:
    boxes, scores = (t.to(device) for t in clustered_boxes(generator, 100))

    def twice(boxes: Tensor, scores: Tensor) -> Tensor:
        kept = nms(boxes, scores, 0.7)
        again = batched_nms(boxes[kept], scores[kept], kept % 3, 0.3)
        return boxes[kept][again]

    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(boxes, scores), twice(boxes, scores))


def digest(seed: int) -> str:
    """Return a hash of many results, which is equal on every instruction set."""
    generator = torch.Generator().manual_seed(seed)
    collected = hashlib.sha256()
    for dtype in FLOATS:
        for count in (5, 40, 700):
            boxes, scores = clustered_boxes(generator, count)
            idxs = torch.randint(0, 5, (count,), generator=generator)
            boxes, scores = boxes.to(dtype), scores.to(dtype)
            for threshold in (0.5, 0.7, 1e-6):
                padded = nms_padded(boxes[None], scores[None], threshold, 30, idxs[None])
                for kept in (nms(boxes, scores, threshold), batched_nms(boxes, scores, idxs, threshold), *padded):
                    collected.update(kept.numpy().tobytes())
        many = tuple(t.to(dtype) for t in clustered_boxes(generator, 2500))
        for boxes, scores in (many, hostile_rows(generator, torch.device("cpu"), dtype)):
            collected.update(nms(boxes, scores, 0.5).numpy().tobytes())
    return collected.hexdigest()


@pytest.mark.parametrize("isa", [i for i in ISAS if ISAS.index(i) <= ISAS.index(str(build_info()["cpu_best"]))])
def test_every_instruction_set_gives_the_same(isa: str) -> None:
    run, folder = python("from tests.ops.test_nms import digest; print(digest(3))")
    environment = {**os.environ, "PYRCNN_CPU_CAPABILITY": isa}
    result = subprocess.run(run, env=environment, capture_output=True, text=True, check=True, timeout=120, cwd=folder)
    assert result.stdout.strip() == digest(3)


def test_without_boxes_the_other_arguments_may_be_missing_but_not_elsewhere() -> None:
    none, elsewhere = torch.zeros(0, 4), torch.zeros(0, device="meta")
    assert batched_nms(none, None, None, 0.5).tolist() == batched_nms(none, none[:, 0], None, 0.5).tolist() == []
    for scores, idxs, name in ((elsewhere, None, "scores"), (None, elsewhere, "idxs")):
        with pytest.raises(InputError, match=f"{name} must be on the device of boxes, cpu, got meta"):
            batched_nms(none, scores, idxs, 0.5)
