"""nms, batched_nms and nms_padded."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pyrcnn import ops
from tests.cases import Inputs, OpCase, Shape, change
from tests.reference import nms as reference

# Corners are integers below 64 and the threshold is 1/2, so float32 and float64 decide every pair alike, including
# exact ties. Scores have 32 values, so many are equal.
THRESHOLD = 0.5


def random_boxes(generator: torch.Generator, *shape: int) -> Tensor:
    corner = torch.randint(0, 48, (*shape, 2), generator=generator)
    return torch.cat([corner, corner + torch.randint(0, 16, (*shape, 2), generator=generator)], -1).double()


def random_scores(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(0, 32, shape, generator=generator).double() / 32


def plain(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: Shape) -> Inputs:
    count = shape["boxes"]
    return {
        "boxes": random_boxes(generator, count).to(device, dtype),
        "scores": random_scores(generator, count).to(device, dtype),
        "iou_threshold": THRESHOLD,
    }


def batched(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: Shape) -> Inputs:
    idxs = torch.randint(-2, shape["classes"] - 2, (shape["boxes"],), generator=generator) * shape.get("step", 1)
    return {**plain(generator, device, dtype, shape), "idxs": idxs.to(device)}


def padded(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: Shape) -> Inputs:
    images, count = shape["images"], shape["boxes"]
    inputs: Inputs = {
        "boxes": random_boxes(generator, images, count).to(device, dtype),
        "scores": random_scores(generator, images, count).to(device, dtype),
        "iou_threshold": THRESHOLD,
        "max_output": shape["max_output"],
        "score_threshold": shape.get("score_threshold", -math.inf),
    }
    if "groups" in shape:
        inputs["groups"] = torch.randint(0, shape["groups"], (images, count), generator=generator).to(device)
    if "valid" in shape:
        inputs["valid"] = torch.tensor(shape["valid"], device=device)
    return inputs


def hostile_rows(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    boxes, scores = random_boxes(generator, 200), random_scores(generator, 200)
    odd = torch.tensor([math.nan, math.inf, -math.inf, 1e38, -1e38, 1e-40, -0.0, 1e300], dtype=torch.float64)
    where = torch.rand(boxes.shape, generator=generator) < 0.15
    boxes[where] = odd[torch.randint(0, len(odd), (int(where.sum()),), generator=generator)]
    where = torch.rand(scores.shape, generator=generator) < 0.15
    scores[where] = odd[torch.randint(0, len(odd), (int(where.sum()),), generator=generator)]
    return boxes.to(device, dtype), scores.to(device, dtype)


def hostile(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    boxes, scores = hostile_rows(generator, device, dtype)
    return [
        {"boxes": boxes, "scores": scores, "iou_threshold": t}
        for t in (0.5, 0.0, -1.0, 2.0, math.nan, math.inf, -math.inf)
    ]


def hostile_batched(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    idxs = torch.tensor([0, -1, 2**63 - 1, -(2**63)], device=device).repeat(50)
    return [{**inputs, "idxs": idxs} for inputs in hostile(generator, device, dtype)]


def hostile_padded(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    boxes, scores = hostile_rows(generator, device, dtype)
    idxs = torch.tensor([[0, -1, 2**63 - 1, -(2**63)]], device=device).repeat(2, 25)
    common = {"boxes": boxes.view(2, 100, 4), "scores": scores.view(2, 100), "iou_threshold": 0.5, "max_output": 20}
    return [
        {**common, "groups": idxs, "score_threshold": s, "valid": torch.tensor(v, device=device)}
        for s in (0.2, math.nan, math.inf)
        for v in ([-5, 2**62], [100, 101], [0, 1])
    ]


def given(name: str, size: tuple[int, ...], dtype: torch.dtype) -> Callable[[Inputs], Inputs]:
    """Add an argument that the first shape does not have."""
    return lambda inputs: {**inputs, name: torch.zeros(size, dtype=dtype, device=inputs["boxes"].device)}


BAD_ROWS = (
    ("one row", change(boxes=lambda b: b[0]), "boxes"),
    ("five columns", change(boxes=lambda b: torch.cat([b, b[..., :1]], -1)), "boxes"),
    ("integer boxes", change(boxes=lambda b: b.long(), scores=lambda s: s.long()), "boxes"),
    ("too few scores", change(scores=lambda s: s[..., 1:]), "scores"),
    ("scores of two dimensions more", change(scores=lambda s: s[..., None]), "scores"),
    ("another dtype", change(scores=lambda s: s.double()), "scores"),
)

CASES = [
    OpCase(
        name="nms",
        call=ops.nms,
        oracle=reference.nms,
        inputs=plain,
        shapes={"100": {"boxes": 100}, "1": {"boxes": 1}, "333": {"boxes": 333}},
        empty_shapes={"no_boxes": {"boxes": 0}},
        native=lambda i: (torch.ops.pyrcnn.nms.default, (i["boxes"], i["scores"], i["iou_threshold"])),
        bad=BAD_ROWS,
        hostile=hostile,
    ),
    OpCase(
        name="batched_nms",
        call=ops.batched_nms,
        oracle=reference.batched_nms,
        inputs=batched,
        shapes={
            "few_classes": {"boxes": 200, "classes": 4},
            "many_classes": {"boxes": 300, "classes": 80},
            "sparse_classes": {"boxes": 200, "classes": 20, "step": 10**17 + 1},
            "one_class": {"boxes": 100, "classes": 1},
        },
        empty_shapes={"no_boxes": {"boxes": 0, "classes": 3}},
        native=lambda i: (
            torch.ops.pyrcnn.batched_nms.default,
            (i["boxes"], i["scores"], i["idxs"], i["iou_threshold"]),
        ),
        bad=(
            *BAD_ROWS,
            ("too few idxs", change(idxs=lambda i: i[1:]), "idxs"),
            ("no scores", change(scores=None), "scores"),
            ("no idxs", change(idxs=None), "idxs"),
        ),
        hostile=hostile_batched,
    ),
    OpCase(
        name="nms_padded",
        call=ops.nms_padded,
        oracle=reference.nms_padded,
        inputs=padded,
        shapes={
            "plain": {"images": 2, "boxes": 90, "max_output": 100},
            "stops_early": {"images": 3, "boxes": 120, "max_output": 7},
            "groups": {"images": 2, "boxes": 150, "max_output": 60, "groups": 5},
            "own_groups": {"images": 1, "boxes": 100, "max_output": 70, "groups": 10**12},
            "all": {
                "images": 4,
                "boxes": 100,
                "max_output": 30,
                "groups": 3,
                "score_threshold": 0.25,
                "valid": [100, 0, 37, 1],
            },
        },
        large={"images": 3, "boxes": 3000, "max_output": 500, "groups": 5},
        empty_shapes={
            "no_images": {"images": 0, "boxes": 10, "max_output": 5, "groups": 2},
            "no_boxes": {"images": 2, "boxes": 0, "max_output": 5, "groups": 2},
            "no_output": {"images": 2, "boxes": 10, "max_output": 0},
        },
        native=lambda i: (
            torch.ops.pyrcnn.nms_padded.default,
            (
                i["boxes"],
                i["scores"],
                i["iou_threshold"],
                i["max_output"],
                i.get("groups"),
                i["score_threshold"],
                i.get("valid"),
            ),
        ),
        bad=(
            *BAD_ROWS,
            ("negative output", change(max_output=-1), "max_output"),
            ("groups of one image", given("groups", (90,), torch.int64), "groups"),
            ("real groups", given("groups", (2, 90), torch.float32), "groups"),
            ("valid for three", given("valid", (3,), torch.int64), "valid"),
            ("real valid", given("valid", (2,), torch.float32), "valid"),
        ),
        hostile=hostile_padded,
    ),
]
