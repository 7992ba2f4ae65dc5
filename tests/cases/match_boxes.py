"""match_boxes."""

from __future__ import annotations

import math

import torch

from pyrcnn import ops
from tests.cases import Inputs, OpCase, Shape, change
from tests.cases.box_coding import EXTREMES, make_boxes
from tests.reference import boxes as reference


def _inputs(g: torch.Generator, device: torch.device, dtype: torch.dtype, s: Shape) -> Inputs:
    n, m, k = s["images"], s["anchors"], s["truths"]
    anchors = make_boxes(g, device, dtype, (m,) if s["shared"] else (n, m))
    truths = make_boxes(g, device, dtype, (n, k))
    if m and k:  # equal boxes, so that anchors and ground truth have ties
        truths[:, -1] = truths[:, 0]
        anchors[..., m // 2, :] = anchors[..., 0, :]
        truths[:, k // 2] = anchors[..., 0, :]
    counts = torch.randint(0, k + 1, (n,), generator=g).to(device) if s["padded"] else None
    crowd = (torch.rand(n, k, generator=g) < 0.3).to(device) if s["crowd"] else None
    thresholds = {"high": 0.5, "low": 0.3, "allow_low_quality": s["claims"], "crowd_threshold": 0.4}
    return {"anchors": anchors, "ground_truth": truths, "counts": counts, "crowd": crowd, **thresholds}


def _hostile(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    values = torch.tensor(EXTREMES, dtype=torch.float64)
    anchors = values[torch.randint(0, len(EXTREMES), (130, 4), generator=generator)].to(device, dtype)
    truths = values[torch.randint(0, len(EXTREMES), (2, 9, 4), generator=generator)].to(device, dtype)
    thresholds = {"high": 0.7, "low": 0.3, "allow_low_quality": True}
    wild = torch.tensor([-5, 1 << 40], device=device)
    return [
        {"anchors": anchors, "ground_truth": truths, **thresholds},
        {"anchors": anchors, "ground_truth": truths, "counts": wild, **thresholds},
        {"anchors": anchors, "ground_truth": truths, "high": math.nan, "low": math.nan, "allow_low_quality": True},
    ]


_PLAIN = {"images": 2, "anchors": 67, "truths": 5, "shared": True, "padded": False, "crowd": False, "claims": True}

CASES = [
    OpCase(
        name="match_boxes",
        call=ops.match_boxes,
        oracle=reference.match_boxes,
        inputs=_inputs,
        shapes={
            "shared": _PLAIN,
            "own-anchors": {**_PLAIN, "shared": False, "padded": True},
            "no-claims": {**_PLAIN, "claims": False},
            "crowd": {**_PLAIN, "crowd": True, "padded": True},
            "many": {**_PLAIN, "anchors": 1300, "truths": 20, "images": 3, "crowd": True},
            "many-truths": {**_PLAIN, "anchors": 65, "truths": 150, "images": 1},
            "one": {**_PLAIN, "anchors": 1, "truths": 1, "images": 1},
        },
        large={**_PLAIN, "anchors": 9001, "truths": 20, "images": 2},
        native=lambda i: (
            torch.ops.pyrcnn.match_boxes.default,
            (i["anchors"], i["ground_truth"], i["counts"], i["crowd"], 0.5, 0.3, True, 0.7),
        ),
        empty_shapes={
            "no-truths": {**_PLAIN, "truths": 0},
            "no-anchors": {**_PLAIN, "anchors": 0},
            "no-images": {**_PLAIN, "images": 0},
        },
        bad=(
            ("three coordinates", change(ground_truth=lambda t: t[..., :3]), "ground_truth"),
            ("three anchor coordinates", change(anchors=lambda t: t[..., :3]), "anchors"),
            ("anchors of three images", change(anchors=lambda t: torch.stack([t] * 3)), "anchors"),
            ("low above high", change(low=0.9), "low"),
            ("counts of three images", change(counts=torch.ones(3, dtype=torch.int64)), "counts"),
            ("crowd of another size", change(crowd=torch.ones(2, 9, dtype=torch.bool)), "crowd"),
            ("a negative crowd threshold", change(crowd_threshold=-0.5), "crowd_threshold"),
            (
                "integers",
                change(anchors=lambda t: t.long(), ground_truth=lambda t: t.long()),
                "ground_truth",
            ),
        ),
        hostile=_hostile,
    )
]
