"""heatmap_peaks, with multiples of 1/8, which are exact in every dtype, so that ties and plateaus are frequent."""

from __future__ import annotations

import math
from typing import Any

import torch

from pyrcnn import ops
from tests.cases import Inputs, OpCase, Shape, change
from tests.reference.heatmap_peaks import heatmap_peaks as oracle


def inputs(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: Shape) -> Inputs:
    n, c, h, w = shape["size"]
    values = torch.randint(-40, 40, (n, c, h, w), generator=generator) / 8
    if shape.get("distinct"):
        values = torch.randperm(n * c * h * w, generator=generator).reshape(n, c, h, w) / 16 - 2
    options = {name: shape[name] for name in ("kernel", "sigmoid", "tolerance", "per_class") if name in shape}
    return {"heatmap": values.to(device, dtype), "k": shape["k"], **options}


def native(given: Inputs) -> tuple[Any, tuple[Any, ...]]:
    defaults = {"kernel": 3, "sigmoid": True, "tolerance": 0.0, "per_class": False}
    return torch.ops.pyrcnn.heatmap_peaks.default, tuple({**defaults, **given}[n] for n in ORDER)


ORDER = ("heatmap", "k", "kernel", "sigmoid", "tolerance", "per_class")


def hostile(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    maps = torch.randn(2, 3, 9, 10, generator=generator).to(device, dtype)
    poisoned = maps.clone()
    poisoned[torch.rand(maps.shape, generator=generator) < 0.3] = math.nan
    poisoned[0, 0, 0] = math.inf
    poisoned[1, 1, 1] = -math.inf
    everything = [torch.full_like(maps, v) for v in (math.nan, math.inf, -math.inf, 0.0)]
    return [
        {"heatmap": m, "k": 20, "sigmoid": s, "tolerance": t, "per_class": p}
        for m in (poisoned, *everything)
        for s in (True, False)
        for t in (0.0, 1e-6)
        for p in (True, False)
    ]


CASES = [
    OpCase(
        name="heatmap_peaks",
        call=ops.heatmap_peaks,
        oracle=oracle,
        inputs=inputs,
        native=native,
        shapes={
            "two-images": {"size": (2, 3, 12, 17), "k": 20},
            "more-than-there-are": {"size": (1, 2, 5, 6), "k": 100},
            "every-cell": {"size": (1, 2, 7, 9), "k": 40, "kernel": 1},
            "wide-window": {"size": (2, 2, 11, 13), "k": 9, "kernel": 5},
            "scores": {"size": (1, 3, 9, 8), "k": 30, "sigmoid": False},
            "tolerant": {"size": (2, 3, 10, 9), "k": 30, "tolerance": 0.011},
            "per-class": {"size": (2, 5, 9, 11), "k": 7, "per_class": True},
            "one-class": {"size": (1, 1, 33, 37), "k": 12},
            "one-cell": {"size": (2, 3, 1, 1), "k": 2},
        },
        large={"size": (2, 3, 200, 250), "k": 100},
        empty_shapes={
            "no-image": {"size": (0, 3, 4, 4), "k": 5},
            "no-class": {"size": (2, 0, 4, 4), "k": 5},
            "no-cell": {"size": (2, 3, 0, 4), "k": 5},
            "no-peak-wanted": {"size": (2, 3, 4, 4), "k": 0},
        },
        grads=("heatmap",),
        grad_shape={"size": (2, 2, 5, 6), "k": 4, "distinct": True},
        bad=(
            ("three-dimensions", change(heatmap=lambda t: t[0]), "heatmap"),
            ("integers", change(heatmap=lambda t: t.int()), "heatmap"),
            ("negative-k", change(k=-1), "k"),
            ("even-kernel", change(kernel=2), "kernel"),
            ("negative-tolerance", change(tolerance=-1.0), "tolerance"),
        ),
        hostile=hostile,
    )
]
