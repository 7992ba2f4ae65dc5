"""roi_pool and its gradient."""

from __future__ import annotations

import torch

from pyrcnn.ops import roi_pool
from tests.cases import Inputs, OpCase, Shape, change
from tests.cases.roi_align import hostile_rois, make_map, make_rois
from tests.reference import roi_pool as reference


def _inputs(generator: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    return {
        "input": make_map(generator, device, dtype, s["n"], s["c"], s["h"], s["w"]),
        "boxes": make_rois(generator, device, dtype, s["k"], s["n"], s["h"] / s["scale"]),
        "output_size": s["bins"],
        "spatial_scale": s["scale"],
    }


def _hostile(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    result: list[Inputs] = []
    for height, width in ((9, 7), (0, 5), (5, 0), (1, 1)):
        image = make_map(generator, device, dtype, 1, 3, height, width)
        result.append({"input": image, "boxes": hostile_rois().to(device), "output_size": (3, 2), "spatial_scale": 0.5})
    for index in (float("nan"), -1.0, 1.0, 1e30):
        rois = torch.tensor([[index, 0, 0, 4, 4]], device=device)
        result.append({"input": make_map(generator, device, dtype, 1, 3, 9, 7), "boxes": rois, "output_size": 2})
    return result


_ONE = {"n": 2, "c": 5, "h": 16, "w": 13, "k": 9, "bins": (3, 2), "scale": 0.25}

CASES = [
    OpCase(
        name="roi_pool",
        call=roi_pool,
        oracle=reference.roi_pool,
        inputs=_inputs,
        shapes={"small": _ONE, "many-channels": {**_ONE, "n": 1, "c": 70, "k": 4}},
        large={**_ONE, "c": 70, "h": 61, "w": 77, "k": 200},
        empty_shapes={
            "no-rois": {**_ONE, "k": 0},
            "no-images": {**_ONE, "n": 0, "k": 0},
            "no-channels": {**_ONE, "c": 0},
            "no-rows": {**_ONE, "h": 0},
        },
        native=lambda i: (
            torch.ops.pyrcnn.roi_pool.default,
            (i["input"], i["boxes"], i["spatial_scale"], 3, 2, 16 if i["input"].requires_grad else 0),
        ),
        grads=("input",),
        grad_shape={**_ONE, "h": 7, "w": 6, "c": 2, "k": 3},
        bad=(
            ("three dimensions", change(input=lambda t: t[0]), "input"),
            ("integers", change(input=lambda t: t.int()), "input"),
            ("boxes without index", change(boxes=lambda b: b[:, 1:]), "boxes"),
            ("integer boxes", change(boxes=lambda b: b.long()), "boxes"),
            ("half a bin", change(output_size=1.5), "output_size"),
            ("no bins", change(output_size=0), "output_size"),
        ),
        hostile=_hostile,
        layouts=("input",),
    ),
]
