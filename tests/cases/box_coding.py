"""decode_boxes, encode_boxes, grid_anchors and decode_anchors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyrcnn import ops
from tests.cases import Inputs, OpCase, Shape, change
from tests.reference import boxes as reference

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def make_boxes(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Return boxes within 0..64 with sides of 4 to 20, in multiples of 1/4, which are exact in every dtype."""
    corner = torch.randint(0, 176, (*shape, 2), generator=generator)
    size = torch.randint(16, 80, (*shape, 2), generator=generator)
    return (torch.cat([corner, corner + size], -1) / 4).to(device, dtype)


def _normal(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=generator).to(device, dtype)


def _decode_inputs(g: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    deltas = _normal(g, device, dtype, (*s["rows"], 4))
    if deltas.numel():
        deltas.view(-1, 4)[-1, 2:] = 100.0  # far above the limit
    rest = {"weights": WEIGHTS, "clip": 2.0, "size": s.get("size")}
    return {"deltas": deltas, "anchors": make_boxes(g, device, dtype, s["anchors"]), **rest}


def _encode_inputs(g: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    boxes, anchors = make_boxes(g, device, dtype, s["rows"]), make_boxes(g, device, dtype, s["anchors"])
    return {"boxes": boxes, "anchors": anchors, "weights": WEIGHTS}


PAIRS = {
    "one": {"rows": (1,), "anchors": (1,)},
    "same": {"rows": (67,), "anchors": (67,)},
    "batch": {"rows": (3, 37), "anchors": (37,)},
    "classes": {"rows": (9, 7), "anchors": (9, 1)},
    "batch-and-classes": {"rows": (2, 5, 3), "anchors": (5, 1)},
    "one-for-all": {"rows": (3, 7), "anchors": (1, 1)},
    "mixed": {"rows": (2, 3, 5), "anchors": (2, 1, 5)},
}
NO_PAIRS = {
    "no-rows": {"rows": (0,), "anchors": (0,)},
    "no-images": {"rows": (0, 5), "anchors": (5,)},
    "no-classes": {"rows": (5, 0), "anchors": (5, 1)},
}
EXTREMES = (0.0, -1.0, 1e30, -1e30, math.inf, -math.inf, math.nan)


def _hostile_rows(name: str) -> Any:
    def inputs(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
        values = torch.tensor(EXTREMES, dtype=torch.float64)
        rows = values[torch.randint(0, len(EXTREMES), (97, 4), generator=generator)].to(device, dtype)
        anchors = values[torch.randint(0, len(EXTREMES), (97, 4), generator=generator)].to(device, dtype)
        return [{name: rows, "anchors": anchors}, {name: rows, "anchors": rows}]

    return inputs


def _bad_rows(name: str) -> Any:
    return (
        ("three coordinates", change(**{name: lambda t: t[..., :3]}), "anchors"),
        ("too many anchors", change(anchors=lambda t: torch.cat([t, t])), "anchors"),
        ("three weights", change(weights=(1.0, 1.0, 1.0)), "weights"),
        ("integers", change(**{name: lambda t: t.long(), "anchors": lambda t: t.long()}), name),
    )


def _levels(g: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    cells = [make_boxes(g, device, dtype, (s["per_cell"],)) - 22 for _ in s["maps"]]
    strides = [(4.0 * 2**i, 4.0 * 2**i + 1) for i in range(len(s["maps"]))]
    return {"cell_anchors": cells, "strides": strides, "offset": 0.5}


def _grid_inputs(g: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    return {"feature_sizes": s["maps"], **_levels(g, device, dtype, s)}


def _maps_inputs(g: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    deltas = [_normal(g, device, dtype, (s["images"], 4 * s["per_cell"], h, w)) for h, w in s["maps"]]
    sizes = torch.tensor([[30.5, 70.0], [50.0, 41.0]])[: s["images"]]
    rest = {"image_sizes": sizes.to(device, dtype), "weights": WEIGHTS, "clip": 2.0}
    return {"deltas": deltas, **_levels(g, device, dtype, s), **rest}


def _hostile_maps(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    values = torch.tensor(EXTREMES, dtype=torch.float64)
    maps = values[torch.randint(0, len(EXTREMES), (1, 12, 3, 9), generator=generator)].to(device, dtype)
    inputs = _maps_inputs(generator, device, dtype, {"images": 1, "per_cell": 3, "maps": [(3, 9)]})
    no_size = torch.full((1, 2), math.nan, device=device)
    return [{**inputs, "deltas": [maps]}, {**inputs, "deltas": [maps], "image_sizes": no_size}]


def _native_maps(i: Inputs) -> tuple[Any, tuple[Any, ...]]:
    strides = [float(v) for pair in i["strides"] for v in pair]
    arguments = (i["deltas"], i["cell_anchors"], strides, i["image_sizes"], list(i["weights"]), i["clip"], i["offset"])
    return torch.ops.pyrcnn.decode_anchors.default, arguments


MAPS = {
    "two-levels": {"images": 2, "per_cell": 3, "maps": [(5, 19), (2, 9)]},
    "one-anchor": {"images": 1, "per_cell": 1, "maps": [(1, 1)]},
    "wide": {"images": 1, "per_cell": 2, "maps": [(2, 70)]},
}

CASES = [
    OpCase(
        name="decode_boxes",
        call=ops.decode_boxes,
        oracle=reference.decode_boxes,
        inputs=_decode_inputs,
        shapes={**PAIRS, "clipped": {"rows": (3, 37), "anchors": (37,), "size": (32.0, 40.5)}},
        native=lambda i: (
            torch.ops.pyrcnn.decode_boxes.default,
            (i["deltas"], i["anchors"], 1, [1.0, 2.0, 3.0, 4.0], 2.0, [32.0, 40.5]),
        ),
        large={"rows": (2, 8001), "anchors": (8001,)},
        empty_shapes=NO_PAIRS,
        grads=("deltas", "anchors"),
        grad_shape={"rows": (2, 3, 2), "anchors": (3, 1)},
        bad=_bad_rows("deltas"),
        hostile=_hostile_rows("deltas"),
    ),
    OpCase(
        name="encode_boxes",
        call=ops.encode_boxes,
        oracle=reference.encode_boxes,
        inputs=_encode_inputs,
        shapes=PAIRS,
        native=lambda i: (torch.ops.pyrcnn.encode_boxes.default, (i["boxes"], i["anchors"], 1, [1.0, 2.0, 3.0, 4.0])),
        large={"rows": (2, 8001), "anchors": (8001,)},
        empty_shapes=NO_PAIRS,
        grads=("boxes", "anchors"),
        grad_shape={"rows": (2, 3, 2), "anchors": (3, 1)},
        bad=_bad_rows("boxes"),
        hostile=_hostile_rows("boxes"),
    ),
    OpCase(
        name="grid_anchors",
        call=ops.grid_anchors,
        oracle=reference.grid_anchors,
        inputs=_grid_inputs,
        shapes=MAPS,
        native=lambda i: (torch.ops.pyrcnn.grid_anchors.default, (i["cell_anchors"][0], 3, 5, 4.0, 8.0, 0.5)),
        large={"images": 1, "per_cell": 3, "maps": [(97, 131)]},
        empty_shapes={"no-cells": {"per_cell": 2, "maps": [(0, 3)]}, "no-anchors": {"per_cell": 0, "maps": [(2, 3)]}},
        bad=(
            ("three coordinates", change(cell_anchors=lambda c: [t[:, :3] for t in c]), "cell_anchors"),
            ("a stride too few", change(strides=lambda s: s[1:]), "strides"),
            ("a size too many", change(feature_sizes=lambda s: [*s, (1, 1)]), "feature_sizes"),
            ("a negative size", change(feature_sizes=lambda s: [(-1, 2) for _ in s]), "feature_sizes"),
            ("integers", change(cell_anchors=lambda c: [t.long() for t in c]), "cell_anchors"),
        ),
    ),
    OpCase(
        name="decode_anchors",
        call=ops.decode_anchors,
        oracle=reference.decode_anchors,
        inputs=_maps_inputs,
        shapes=MAPS,
        native=_native_maps,
        large={"images": 1, "per_cell": 3, "maps": [(97, 131)]},
        empty_shapes={
            "no-cells": {"images": 2, "per_cell": 2, "maps": [(0, 3), (2, 2)]},
            "no-anchors": {"images": 2, "per_cell": 0, "maps": [(2, 3)]},
            "no-images": {"images": 0, "per_cell": 2, "maps": [(2, 3)]},
        },
        grads=("deltas",),
        grad_shape={"images": 2, "per_cell": 2, "maps": [(2, 2), (1, 2)]},
        bad=(
            ("a level too few", change(cell_anchors=lambda c: c[1:]), "cell_anchors"),
            ("a stride too few", change(strides=lambda s: s[1:]), "strides"),
            ("too few channels", change(deltas=lambda d: [t[:, 1:] for t in d]), "deltas"),
            ("three dimensions", change(deltas=lambda d: [t[0] for t in d]), "deltas"),
            ("integers", change(deltas=lambda d: [t.long() for t in d]), "deltas"),
            ("one image's size", change(image_sizes=lambda s: s[:1]), "image_sizes"),
            ("three weights", change(weights=(1.0, 1.0, 1.0)), "weights"),
        ),
        hostile=_hostile_maps,
    ),
]
