"""generate_proposals and roi_detections."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyrcnn.ops import generate_proposals, roi_detections
from tests.cases import Inputs, OpCase, Shape, change
from tests.reference import proposals as reference


def reals(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of boxes that go with inputs of ``dtype``: half precision would lose pixels."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def levels_of(shape: Shape) -> list[tuple[int, int, int]]:
    return [(h, w, a) for h, w, a in shape["levels"]]


def rpn_inputs(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: Shape) -> Inputs:
    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    n, strides = shape["images"], [4.0 * 2**i for i in range(len(shape["levels"]))]
    inputs: Inputs = {"objectness": [], "deltas": [], "cell_anchors": [], "strides": strides}
    height = max((h * s for (h, _, _), s in zip(levels_of(shape), strides, strict=True)), default=0.0)
    width = max((w * s for (_, w, _), s in zip(levels_of(shape), strides, strict=True)), default=0.0)
    for (h, w, a), stride in zip(levels_of(shape), strides, strict=True):
        # distinct logits, so that float64 and the dtype agree on the order except for exact ties
        inputs["objectness"].append((normal(n, a, h, w) * 2).to(dtype).to(device))
        inputs["deltas"].append((normal(n, 4 * a, h, w) * 0.4).to(dtype).to(device))
        sides = stride * torch.tensor([[3 + i % 3, 2 + i // 3] for i in range(a)], dtype=torch.float64).reshape(a, 2)
        inputs["cell_anchors"].append(torch.cat([-sides, sides], 1).to(reals(dtype)).to(device))
    sizes = torch.tensor([[height - 3 * i, width - 5 * i] for i in range(n)], dtype=torch.float32).reshape(n, 2)
    return {
        **inputs,
        "image_sizes": sizes.to(device),
        "pre_nms_top_n": shape["pre"],
        "post_nms_top_n": shape["post"],
        "nms_threshold": 0.6,
        "min_size": shape.get("min_size", 0.0),
        "offset": shape.get("offset", 0.0),
    }


def rpn_native(inputs: Inputs) -> tuple[Any, tuple[Any, ...]]:
    pairs = [s for stride in inputs["strides"] for s in (stride, stride)]
    tail = (0.6, inputs["min_size"], [1.0] * 4, math.log(1000 / 16), inputs["offset"])
    return torch.ops.pyrcnn.generate_proposals.default, (
        inputs["objectness"],
        inputs["deltas"],
        inputs["cell_anchors"],
        pairs,
        inputs["image_sizes"],
        inputs["pre_nms_top_n"],
        inputs["post_nms_top_n"],
        *tail,
    )


def rpn_hostile(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    shape = {"images": 2, "levels": [(5, 7, 3), (3, 4, 3)], "pre": 40, "post": 60}
    results = []
    for value in (math.nan, math.inf, -math.inf, 3e4, -3e4):
        for name in ("objectness", "deltas", "cell_anchors"):
            inputs = rpn_inputs(generator, device, dtype, shape)
            for t in inputs[name]:
                t.view(-1)[::3] = value
            results.append(inputs)
        for name in ("objectness", "deltas"):
            inputs = rpn_inputs(generator, device, dtype, shape)
            inputs[name] = [torch.full_like(t, value) for t in inputs[name]]
            results.append(inputs)
        inputs = rpn_inputs(generator, device, dtype, shape)
        results.append({**inputs, "image_sizes": torch.full_like(inputs["image_sizes"], value)})
        results += [{**inputs, name: value} for name in ("nms_threshold", "min_size", "offset", "clip")]
        results.append({**inputs, "strides": [value, value]})
    inputs = rpn_inputs(generator, device, dtype, shape)
    return [*results, {**inputs, "pre_nms_top_n": 2**40}, {**inputs, "weights": (0.0,) * 4}]


def roi_inputs(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: Shape) -> Inputs:
    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    n, p, c, width = shape["images"], shape["rows"], shape["classes"], shape["width"]
    logits = (normal(n, p, c + 1) * 2).to(dtype)
    centres = torch.rand(n, p, 2, generator=generator, dtype=torch.float64) * torch.tensor([120.0, 90.0])
    sides = 8 + 40 * torch.rand(n, p, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], 2).to(reals(dtype))
    counts = torch.tensor([max(p - 2 * i, 0) for i in range(n)], dtype=torch.int64)
    sizes = torch.tensor([[90 - i, 120 - i] for i in range(n)], dtype=torch.int64).reshape(n, 2)
    return {
        "class_logits": logits.to(device),
        "box_deltas": normal(n, p, width).to(dtype).to(device),
        "proposals": boxes.to(device),
        "counts": counts.to(device),
        "image_sizes": sizes.to(device),
        "score_threshold": shape.get("threshold", 0.05),
        "max_detections": shape["most"],
        "background_first": shape.get("background_first", True),
        "max_per_class": shape.get("per_class"),
    }


def roi_native(inputs: Inputs) -> tuple[Any, tuple[Any, ...]]:
    names = ("class_logits", "box_deltas", "proposals", "counts", "image_sizes", "score_threshold")
    most = inputs["max_detections"]
    tail = (
        0.5,
        most,
        [10.0, 10.0, 5.0, 5.0],
        math.log(1000 / 16),
        0.01,
        inputs["background_first"],
        most,
    )
    return torch.ops.pyrcnn.roi_detections.default, (*(inputs[name] for name in names), *tail)


def roi_hostile(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    shape = {"images": 2, "rows": 40, "classes": 5, "width": 20, "most": 30}
    results = []
    for value in (math.nan, math.inf, -math.inf, 3e4, -3e4):
        for name in ("class_logits", "box_deltas", "proposals"):
            for step in (1, 7):
                inputs = roi_inputs(generator, device, dtype, shape)
                inputs[name].view(-1)[::step] = value
                results.append(inputs)
        results += [{**inputs, name: value} for name in ("score_threshold", "nms_threshold", "min_size", "clip")]
    inputs = roi_inputs(generator, device, dtype, shape)
    results += [{**inputs, "counts": torch.full_like(inputs["counts"], v)} for v in (-5, 41, 2**62)]
    return [*results, {**inputs, "image_sizes": -inputs["image_sizes"]}, {**inputs, "weights": (0.0,) * 4}]


CASES = [
    OpCase(
        name="generate_proposals",
        call=generate_proposals,
        oracle=reference.generate_proposals,
        inputs=rpn_inputs,
        native=rpn_native,
        shapes={
            "two_levels": {"images": 2, "levels": [(9, 13, 3), (5, 7, 3)], "pre": 60, "post": 50, "min_size": 4.0},
            "all_kept": {"images": 1, "levels": [(6, 6, 2)], "pre": 1000, "post": 100, "offset": 0.5},
            "one_anchor": {"images": 3, "levels": [(8, 5, 1), (4, 3, 1), (2, 2, 1)], "pre": 17, "post": 20},
            "sampled": {"images": 1, "levels": [(41, 43, 3)], "pre": 50, "post": 30},
        },
        empty_shapes={
            "no_images": {"images": 0, "levels": [(4, 4, 3)], "pre": 10, "post": 5},
            "no_cells": {"images": 2, "levels": [(4, 4, 3), (0, 2, 3)], "pre": 10, "post": 5},
            "no_anchors": {"images": 2, "levels": [(4, 4, 0)], "pre": 10, "post": 5},
            "none_wanted": {"images": 2, "levels": [(4, 4, 3)], "pre": 10, "post": 0},
            "none_let_in": {"images": 2, "levels": [(4, 4, 3)], "pre": 0, "post": 4},
        },
        bad=(
            ("no levels", change(objectness=[]), "objectness"),
            ("three dimensions", change(objectness=lambda o: [t[0] for t in o]), "objectness"),
            ("fewer deltas", change(deltas=lambda d: d[:-1]), "deltas"),
            ("not four per anchor", change(deltas=lambda d: [t[:, 1:] for t in d]), "deltas"),
            ("another dtype", change(deltas=lambda d: [t.double() for t in d]), "deltas"),
            ("too few anchors", change(cell_anchors=lambda c: [t[1:] for t in c]), "cell_anchors"),
            ("integers", change(objectness=lambda o: [t.long() for t in o]), "deltas"),
            ("one stride", change(strides=[4.0]), "strides"),
            ("three weights", change(weights=(1.0, 1.0, 1.0)), "weights"),
            ("one size", change(image_sizes=lambda s: s[0]), "image_sizes"),
            ("sizes of bools", change(image_sizes=lambda s: s.bool()), "image_sizes"),
            ("negative post", change(post_nms_top_n=-1), "post_nms_top_n"),
        ),
        hostile=rpn_hostile,
    ),
    OpCase(
        name="roi_detections",
        call=roi_detections,
        oracle=reference.roi_detections,
        inputs=roi_inputs,
        native=roi_native,
        shapes={
            "per_class": {"images": 2, "rows": 40, "classes": 5, "width": 20, "most": 30},
            "with_background": {"images": 2, "rows": 33, "classes": 20, "width": 84, "most": 100},
            "shared": {"images": 1, "rows": 50, "classes": 3, "width": 4, "most": 200, "threshold": 0.0},
            "capped": {"images": 1, "rows": 64, "classes": 2, "width": 8, "most": 30, "per_class": 7},
            "background_last": {
                "images": 2,
                "rows": 21,
                "classes": 4,
                "width": 20,
                "most": 10,
                "background_first": False,
            },
        },
        empty_shapes={
            "no_images": {"images": 0, "rows": 4, "classes": 3, "width": 12, "most": 5},
            "no_rows": {"images": 2, "rows": 0, "classes": 3, "width": 12, "most": 5},
            "no_classes": {"images": 2, "rows": 3, "classes": 0, "width": 4, "most": 5},
            "none_wanted": {"images": 2, "rows": 3, "classes": 3, "width": 4, "most": 0},
        },
        bad=(
            ("two dimensions", change(class_logits=lambda t: t[0]), "class_logits"),
            ("integers", change(class_logits=lambda t: t.long()), "class_logits"),
            ("a wrong width", change(box_deltas=lambda t: t[..., 1:]), "box_deltas"),
            ("integer deltas", change(box_deltas=lambda t: t.bool()), "box_deltas"),
            ("fewer proposals", change(proposals=lambda t: t[:, 1:]), "proposals"),
            ("one count", change(counts=lambda t: t[:1]), "counts"),
            ("one size", change(image_sizes=lambda t: t[:1]), "image_sizes"),
            ("five weights", change(weights=(1.0,) * 5), "weights"),
            ("negative most", change(max_detections=-1), "max_detections"),
        ),
        hostile=roi_hostile,
    ),
]
