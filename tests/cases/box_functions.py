"""The functions in plain torch: box measures, conversions and losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pyrcnn import ops
from tests.cases import Inputs, OpCase, Shape, change
from tests.cases.box_coding import EXTREMES, make_boxes
from tests.reference import box_functions as reference

EPS = 1e-7
PAIRS = {
    "some": {"first": (7,), "second": (5,)},
    "batch": {"first": (2, 3), "second": (2, 4)},
    "one": {"first": (1,), "second": (1,)},
}
NO_PAIRS = {"none": {"first": (0,), "second": (3,)}, "no-second": {"first": (2,), "second": (0,)}}
ROWS = {"some": {"rows": (7,)}, "batch": {"rows": (2, 3)}}
NO_ROWS = {"none": {"rows": (0,)}}


def _two(g: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    second = make_boxes(g, device, dtype, s["second"]) + s.get("shift", 0)
    return {"boxes1": make_boxes(g, device, dtype, s["first"]), "boxes2": second}


def _hostile_pairs(g: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    """Return boxes with extreme coordinates."""
    boxes = torch.cartesian_prod(*[torch.tensor(EXTREMES)] * 4).to(device, dtype)
    return [{"boxes1": boxes[::29], "boxes2": boxes[::11]}]


def _same_rows(g: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    return _two(g, device, dtype, {"first": s["rows"], "second": s["rows"]})


def _rows(**rest: Any) -> Callable[..., Inputs]:
    return lambda g, device, dtype, s: {"boxes": make_boxes(g, device, dtype, s["rows"]), **rest}


def _focal(g: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    logits = torch.randn(s["rows"], generator=g)
    targets = (torch.rand(s["rows"], generator=g) < 0.5).to(device, dtype)
    return {"inputs": logits.to(device, dtype), "targets": targets}


BAD_ROWS = (
    ("five coordinates", change(boxes=lambda b: b[..., [0] * 5]), "boxes"),
    ("a list", change(boxes=lambda b: b.tolist()), "boxes"),
)
BAD_BOXES = (
    ("three coordinates", change(boxes2=lambda b: b[..., :3]), "boxes2"),
    (
        "other images",
        change(boxes1=lambda b: b[:1].expand(2, 1, 4), boxes2=lambda b: b[:1].expand(3, 1, 4)),
        "boxes1 and boxes2",
    ),
    ("a list", change(boxes1=lambda b: b.tolist()), "boxes1"),
)
BAD_LOSSES = (
    ("an unknown reduction", change(reduction="median"), "reduction"),
    ("five coordinates", change(boxes1=lambda b: b[..., [0] * 5]), "boxes1"),
    ("other boxes", change(boxes2=lambda b: b[:1].expand(len(b) + 1, 4)), "boxes1 and boxes2"),
)


def _pairwise(name: str, measure: Callable[..., float]) -> OpCase:
    return OpCase(
        name=name,
        call=getattr(ops, name),
        oracle=reference.pairwise(measure),
        inputs=_two,
        shapes=PAIRS,
        empty_shapes=NO_PAIRS,
        bad=BAD_BOXES,
    )


def _loss(name: str, measure: Callable[..., float]) -> OpCase:
    return OpCase(
        name=name,
        call=getattr(ops, name),
        oracle=reference.loss(measure),
        inputs=_same_rows,
        shapes=ROWS,
        empty_shapes=NO_ROWS,
        grads=("boxes1", "boxes2"),
        bad=BAD_LOSSES,
    )


CASES = [
    OpCase(
        name="box_iou",
        call=ops.box_iou,
        oracle=reference.pairwise(reference.iou),
        inputs=_two,
        shapes={**PAIRS, "tiles": {"first": (3,), "second": (1043,)}},
        native=lambda i: (torch.ops.pyrcnn.box_iou.default, (i["boxes1"], i["boxes2"])),
        large={"first": (301,), "second": (507,)},
        empty_shapes={**NO_PAIRS, "no-images": {"first": (0, 2), "second": (0, 3)}},
        grads=("boxes1", "boxes2"),
        grad_shape={"first": (2, 3), "second": (2, 4), "shift": 0.1},  # no equal coordinates, where the gradient jumps
        bad=(
            ("an unknown format", lambda i: {**i, "fmt": "yxyx"}, "fmt"),
            ("one box", change(boxes1=lambda b: b[0]), "boxes1"),
            *BAD_BOXES,
            ("integers of five", change(boxes1=lambda b: b.long()[:, [0] * 5], boxes2=lambda b: b.long()), "boxes1"),
        ),
        hostile=_hostile_pairs,
    ),
    _pairwise("generalized_box_iou", reference.giou),
    _pairwise("distance_box_iou", lambda a, b: reference.diou(a, b, EPS)),
    _loss("generalized_box_iou_loss", lambda a, b: reference.giou(a, b, EPS)),
    _loss("distance_box_iou_loss", lambda a, b: reference.diou(a, b, EPS, EPS)),
    # the weight of the aspect ratios is a constant for autograd, so numerical gradients differ
    OpCase(
        name="complete_box_iou",
        call=ops.complete_box_iou,
        oracle=reference.pairwise(lambda a, b: reference.ciou(a, b, EPS)),
        inputs=_two,
        shapes=PAIRS,
        empty_shapes=NO_PAIRS,
        bad=BAD_BOXES,
    ),
    OpCase(
        name="complete_box_iou_loss",
        call=ops.complete_box_iou_loss,
        oracle=reference.loss(lambda a, b: reference.ciou(a, b, EPS, EPS)),
        inputs=_same_rows,
        shapes=ROWS,
        empty_shapes=NO_ROWS,
        bad=BAD_LOSSES,
    ),
    OpCase(
        name="box_area",
        call=ops.box_area,
        oracle=reference.box_area,
        inputs=_rows(fmt="xyxy"),
        shapes=ROWS,
        empty_shapes=NO_ROWS,
        grads=("boxes",),
        bad=(("an unknown format", change(fmt="yxyx"), "fmt"), *BAD_ROWS),
    ),
    OpCase(
        name="box_convert",
        call=ops.box_convert,
        oracle=reference.box_convert,
        inputs=_rows(in_fmt="xyxy", out_fmt="cxcywh"),
        shapes=ROWS,
        empty_shapes=NO_ROWS,
        grads=("boxes",),
        bad=(
            ("an unknown source", change(in_fmt="yxyx"), "in_fmt"),
            ("a rotated format", change(out_fmt="cxcywhr"), "in_fmt and out_fmt"),
            *BAD_ROWS,
        ),
    ),
    OpCase(
        name="clip_boxes_to_image",
        call=ops.clip_boxes_to_image,
        oracle=reference.clip_boxes_to_image,
        inputs=_rows(size=(20, 40)),
        shapes=ROWS,
        empty_shapes=NO_ROWS,
        bad=BAD_ROWS,
    ),
    OpCase(
        name="sigmoid_focal_loss",
        call=ops.sigmoid_focal_loss,
        oracle=reference.sigmoid_focal_loss,
        inputs=_focal,
        shapes=ROWS,
        grads=("inputs",),
        bad=(
            ("an unknown reduction", lambda i: {**i, "reduction": "median"}, "reduction"),
            ("a negative weight", lambda i: {**i, "alpha": -0.5}, "alpha"),
            ("other targets", change(targets=lambda t: t[:1]), "targets"),
        ),
    ),
]
