"""scale_boxes."""

from __future__ import annotations

import torch

from pyrcnn import ops
from tests.cases import Inputs, OpCase, Shape, change
from tests.cases.box_coding import EXTREMES, make_boxes
from tests.reference import scale_boxes as reference


def _inputs(g: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    return {"boxes": make_boxes(g, device, dtype, (s["boxes"],)), "factor": 1.25}


def _hostile(g: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    boxes = torch.tensor(EXTREMES).to(device, dtype)[:, None].repeat(1, 4)
    return [{"boxes": boxes, "factor": factor} for factor in EXTREMES]


CASES = [
    OpCase(
        name="scale_boxes",
        call=ops.scale_boxes,
        oracle=reference.scale_boxes,
        inputs=_inputs,
        shapes={"one": {"boxes": 1}, "some": {"boxes": 67}},
        large={"boxes": 50_000},
        native=lambda i: (torch.ops.pyrcnn.scale_boxes.default, (i["boxes"], i["factor"])),
        empty_shapes={"none": {"boxes": 0}},
        grads=("boxes",),
        grad_shape={"boxes": 3},
        bad=(
            ("three coordinates", change(boxes=lambda b: b[:, :3]), "boxes"),
            ("integers", change(boxes=lambda b: b.int()), "boxes"),
        ),
        hostile=_hostile,
    )
]
