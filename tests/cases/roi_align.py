"""roi_align, roi_align_levels and their gradients to the features."""

from __future__ import annotations

import math

import torch

from pyrcnn.ops import roi_align, roi_align_levels
from tests.cases import Inputs, OpCase, Shape, change
from tests.reference import roi_align as reference

_SCALES = [1 / 4, 1 / 8, 1 / 16]


def make_rois(
    generator: torch.Generator, device: torch.device, dtype: torch.dtype, count: int, images: int, size: float
) -> torch.Tensor:
    """Return RoIs [K, 5] in and around images of ``size`` pixels, some partly or entirely outside, some inverted.

    In quarters of pixels from 1/8 on, so that float32 holds them exactly and no sample hits a border by rounding.
    """

    def quarters(low: float, high: float) -> torch.Tensor:
        drawn = torch.rand(count, 2, generator=generator, dtype=torch.float64)
        return torch.floor((low + drawn * (high - low)) * 4) / 4 + 0.125

    corner = quarters(-0.3 * size, 1.1 * size)
    index = torch.randint(max(images, 1), (count, 1), generator=generator).double()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return torch.cat([index, corner, corner + quarters(-0.05 * size, 0.8 * size)], 1).to(device, wide)


def make_map(generator: torch.Generator, device: torch.device, dtype: torch.dtype, *size: int) -> torch.Tensor:
    return torch.randn(size, generator=generator, dtype=torch.float64).to(device, dtype)


def _inputs(generator: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    return {
        "input": make_map(generator, device, dtype, s["n"], s["c"], s["h"], s["w"]),
        "boxes": make_rois(generator, device, dtype, s["k"], s["n"], 4 * s["h"]),
        "output_size": s["bins"],
        "spatial_scale": 0.25,
        "sampling_ratio": s["ratio"],
        "aligned": s["aligned"],
    }


def _levels(generator: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    return {
        "features": [make_map(generator, device, dtype, s["n"], s["c"], s["h"] >> i, s["w"] >> i) for i in range(3)],
        "rois": make_rois(generator, device, dtype, s["k"], s["n"], 4 * s["h"]),
        "output_size": s["bins"],
        "scales": _SCALES,
        "sampling_ratio": s["ratio"],
        "aligned": s["aligned"],
        "canonical_size": 24,
        "canonical_level": 3,
    }


def hostile_rois() -> torch.Tensor:
    """Return NaN, infinite, huge, inverted, empty and distant RoIs, and invalid image indices."""
    nan, inf = math.nan, math.inf
    rows = [
        [0, nan, 1, 5, 5],
        [0, 1, 1, nan, 5],
        [0, -inf, 0, inf, 5],
        [0, inf, inf, inf, inf],
        [0, -1e30, -1e30, 1e30, 1e30],
    ]
    rows += [
        [0, -1e9, -1e9, 1e9, 1e9],
        [0, 1e9, 1e9, 2e9, 2e9],
        [0, 9, 9, 2, 2],
        [0, 5, 5, 5, 5],
        [0, 3e38, 0, -3e38, 9],
    ]
    return torch.tensor(rows, dtype=torch.float32)


def _hostile(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    result: list[Inputs] = []
    for height, width in ((9, 7), (0, 5), (5, 0), (1, 1)):
        image = make_map(generator, device, dtype, 1, 3, height, width)
        for ratio in (-1, 2, 50):
            for aligned in (False, True):
                arguments = {"output_size": (3, 2), "spatial_scale": 0.5, "sampling_ratio": ratio, "aligned": aligned}
                result.append({"input": image, "boxes": hostile_rois().to(device), **arguments})
    for index in (math.nan, -1.0, 1.0, 1e30, math.inf):
        rois = torch.tensor([[index, 0, 0, 4, 4]], device=device)
        result.append({"input": make_map(generator, device, dtype, 1, 3, 9, 7), "boxes": rois, "output_size": (3, 2)})
    return result


_ONE = {"n": 2, "c": 5, "h": 16, "w": 13, "k": 9, "bins": (3, 2)}
_MANY = {"n": 1, "c": 70, "h": 11, "w": 12, "k": 4, "bins": (2, 2)}
_SHAPES = {
    "two-samples": {**_ONE, "ratio": 2, "aligned": False},
    "adaptive": {**_ONE, "ratio": -1, "aligned": False},
    "aligned": {**_ONE, "ratio": 3, "aligned": True},
    "aligned-adaptive": {**_ONE, "ratio": 0, "aligned": True},
    "many-channels": {**_MANY, "ratio": 2, "aligned": True},
}
_EMPTY = {
    "no-rois": {**_ONE, "k": 0, "ratio": 2, "aligned": False},
    "no-images": {**_ONE, "n": 0, "k": 0, "ratio": 2, "aligned": False},
    "no-channels": {**_ONE, "c": 0, "ratio": 2, "aligned": False},
    "no-rows": {**_ONE, "h": 0, "ratio": 2, "aligned": False},
}
_TINY = {"n": 2, "c": 2, "h": 8, "w": 9, "k": 3, "bins": (2, 2), "ratio": 2, "aligned": False}


CASES = [
    OpCase(
        name="roi_align",
        call=roi_align,
        oracle=reference.roi_align,
        inputs=_inputs,
        shapes=_SHAPES,
        large={**_ONE, "c": 70, "k": 200, "ratio": 2, "aligned": False},
        empty_shapes=_EMPTY,
        native=lambda i: (
            torch.ops.pyrcnn.roi_align.default,
            ([i["input"]], i["boxes"], [i["spatial_scale"]], 3, 2, i["sampling_ratio"], i["aligned"], 224.0, 4),
        ),
        grads=("input",),
        grad_shape=_TINY,
        bad=(
            ("three dimensions", change(input=lambda t: t[0]), "input"),
            ("integers", change(input=lambda t: t.int()), "input"),
            ("boxes without index", change(boxes=lambda b: b[:, 1:]), "boxes"),
            ("integer boxes", change(boxes=lambda b: b.long()), "boxes"),
            ("no bins", change(output_size=0), "output_size"),
            ("half a bin", change(output_size=1.5), "output_size"),
            ("no scale", change(spatial_scale=0.0), "spatial_scale"),
            ("a scale in words", change(spatial_scale="half"), "spatial_scale"),
            ("a list", change(input=lambda t: t.tolist()), "input"),
            ("a list of lists", change(boxes=lambda b: b.tolist()), "boxes"),
        ),
        hostile=_hostile,
        layouts=("input",),
    ),
    OpCase(
        name="roi_align_levels",
        call=roi_align_levels,
        oracle=reference.roi_align_levels,
        inputs=_levels,
        shapes={k: v for k, v in _SHAPES.items() if k != "adaptive"},
        empty_shapes={"no-rois": _EMPTY["no-rois"], "no-channels": _EMPTY["no-channels"]},
        native=lambda i: (
            torch.ops.pyrcnn.roi_align.default,
            (i["features"], i["rois"], i["scales"], 3, 2, i["sampling_ratio"], i["aligned"], 24.0, 3),
        ),
        grads=("features",),
        grad_shape={**_TINY, "k": 4},
        bad=(
            ("no levels", change(features=[], scales=[]), "features"),
            ("one scale missing", change(scales=_SCALES[:2]), "scales"),
            ("boxes without index", change(rois=lambda b: b[:, 1:]), "rois"),
            ("mixed dtypes", change(features=lambda f: [f[0], f[1].double(), f[2]]), "features"),
        ),
        layouts=("features",),
    ),
]
