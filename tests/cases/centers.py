"""decode_centers, match_keypoints and draw_gaussians."""

from __future__ import annotations

import math
from typing import Any

import torch

from pyrcnn import ops
from tests.cases import Inputs, OpCase, Shape, change
from tests.reference.decode_centers import decode_centers
from tests.reference.draw_gaussians import draw_gaussians
from tests.reference.match_keypoints import match_keypoints


def cells(generator: torch.Generator, device: torch.device, shape: Shape) -> Inputs:
    n, k, h, w = (shape[name] for name in ("images", "k", "height", "width"))
    ys, xs = (torch.randint(0, max(limit, 1), (n, k), generator=generator) for limit in (h, w))
    return {"ys": ys.to(device), "xs": xs.to(device)}


def centers(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: Shape) -> Inputs:
    maps = (shape["images"], 2, shape["height"], shape["width"])
    options = {name: shape[name] for name in ("clamp_size", "clip") if name in shape}
    return {
        **cells(generator, device, shape),
        "size": (torch.randn(maps, generator=generator) * 4 + 3).to(device, dtype),
        "offset": torch.rand(maps, generator=generator).to(device, dtype),
        "stride": 4.0,
        **options,
    }


def centers_native(given: Inputs) -> tuple[Any, tuple[Any, ...]]:
    arguments = {"clamp_size": True, "clip": True, **given}
    names = ("ys", "xs", "size", "offset", "stride", "clamp_size", "clip")
    return torch.ops.pyrcnn.decode_centers.default, tuple(arguments[n] for n in names)


def hostile_centers(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    given = centers(generator, device, dtype, {"images": 2, "k": 6, "height": 4, "width": 5})
    wild = torch.tensor([[-1, 4, 10**9, -(10**9), 2**62, 0]] * 2, device=device)
    return [
        {**given, "ys": wild},
        {**given, "xs": wild},
        {**given, "size": torch.full_like(given["size"], math.nan)},
        {**given, "offset": torch.full_like(given["offset"], math.inf)},
    ]


def keypoints(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: Shape) -> Inputs:
    n, j, h, w = (shape[name] for name in ("images", "keypoints", "height", "width"))

    def noise(channels: int, scale: float) -> torch.Tensor:
        return (torch.randn(n, channels, h, w, generator=generator) * scale).to(device, dtype)

    wide = torch.float64 if dtype == torch.float64 else torch.float32
    low = torch.rand(n, shape["k"], 2, generator=generator) * 4 * min(h, w) * 0.5
    boxes = torch.cat((low, low + torch.rand(n, shape["k"], 2, generator=generator) * 30 + 8), -1)
    names = ("image_sizes", "candidates", "ranking", "spreads", "score_threshold", "tolerance")
    options = {name: shape[name] for name in names if name in shape}
    if "image_sizes" in options:
        options["image_sizes"] = torch.tensor(options["image_sizes"]).to(device, dtype)
    return {
        **cells(generator, device, shape),
        "heatmap": noise(j, 2.0),
        "regression": noise(2 * j, 2.0),
        "offset": noise(2 if shape.get("shared") else 2 * j, 0.3),
        "boxes": None if shape.get("no_boxes") else boxes.to(device, wide),
        "stride": 4.0,
        **options,
    }


def joints_native(given: Inputs) -> tuple[Any, tuple[Any, ...]]:
    maps = [given[n] for n in ("ys", "xs", "heatmap", "regression", "offset", "boxes", "stride")]
    rest = (None, 100, 3, True, 0.0, 0, 0.0, [], 0.1, 1.2, 0.3, 0.1)
    return torch.ops.pyrcnn.match_keypoints.default, (*maps, *rest)


def hostile_joints(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    given = keypoints(generator, device, dtype, {"images": 2, "k": 6, "keypoints": 3, "height": 5, "width": 6})
    wild = torch.tensor([[-1, 4, 10**9, -(10**9), 2**62, 0]] * 2, device=device)
    spoilt = [{**given, "ys": wild}, {**given, "xs": wild}]
    for name in ("heatmap", "regression", "offset", "boxes"):
        spoilt += [{**given, name: torch.full_like(given[name], value)} for value in (math.nan, math.inf, -math.inf)]
    return spoilt


def objects(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: Shape) -> Inputs:
    n, c, h, w = shape["size"]
    count = shape["objects"]
    scale = torch.tensor([w + 6.0, h + 6.0])
    inputs = {
        "shape": shape["size"],
        "centers": (torch.rand(n, count, 2, generator=generator) * scale - 3).to(device, dtype),
        "sigmas": (torch.rand(n, count, generator=generator) * 3 + 0.2).to(device, dtype),
        "classes": torch.randint(-1, c + 1, (n, count), generator=generator).to(device),
    }
    if shape.get("weights"):
        inputs["weights"] = (torch.rand(n, count, generator=generator) - 0.2).to(device, dtype)
    if shape.get("channels_last"):
        inputs["channels_last"] = True
    return inputs


def objects_native(given: Inputs) -> tuple[Any, tuple[Any, ...]]:
    _, c, h, w = given["shape"]
    arguments = (given["centers"], given["sigmas"], given["classes"], given.get("weights"), c, h, w, False)
    return torch.ops.pyrcnn.draw_gaussians.default, arguments


def hostile_objects(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    given = objects(generator, device, dtype, {"size": (2, 3, 6, 7), "objects": 6, "weights": True})
    values = torch.tensor([math.nan, math.inf, -math.inf, 1e30, -1e30, 0.0] * 2, device=device).reshape(2, 6).to(dtype)
    wild = torch.tensor([[-(2**62), 2**62, 3, -1, 10**9, 0]] * 2, device=device)
    return [
        {**given, "centers": values.unsqueeze(-1).expand(2, 6, 2)},
        {**given, "sigmas": values},
        {**given, "sigmas": values, "centers": values.unsqueeze(-1).expand(2, 6, 2)},
        {**given, "weights": values},
        {**given, "classes": wild},
    ]


KEYPOINTS = {"images": 2, "k": 7, "keypoints": 3, "height": 12, "width": 11}
CASES = [
    OpCase(
        name="decode_centers",
        call=ops.decode_centers,
        oracle=decode_centers,
        inputs=centers,
        native=centers_native,
        shapes={
            "two-images": {"images": 2, "k": 20, "height": 9, "width": 12},
            "as-they-are": {"images": 1, "k": 20, "height": 6, "width": 5, "clamp_size": False, "clip": False},
        },
        large={"images": 3, "k": 1000, "height": 9, "width": 12},
        empty_shapes={
            "no-image": {"images": 0, "k": 4, "height": 3, "width": 3},
            "no-peak": {"images": 2, "k": 0, "height": 3, "width": 3},
            "no-cell": {"images": 2, "k": 3, "height": 0, "width": 3},
        },
        grads=("size", "offset"),
        grad_shape={"images": 2, "k": 5, "height": 4, "width": 5},
        bad=(
            ("three-channels", change(size=lambda t: t[:, :1]), "size"),
            ("other-offset", change(offset=lambda t: t[:, :, 1:]), "offset"),
            ("float-cells", change(ys=lambda t: t.float()), "ys"),
            ("flat-cells", change(xs=lambda t: t[0]), "xs"),
        ),
        hostile=hostile_centers,
    ),
    OpCase(
        name="match_keypoints",
        call=ops.match_keypoints,
        oracle=match_keypoints,
        inputs=keypoints,
        native=joints_native,
        shapes={
            "nearest": KEYPOINTS,
            "shared-offsets": {**KEYPOINTS, "shared": True, "candidates": 5},
            "without-boxes": {**KEYPOINTS, "no_boxes": True, "score_threshold": 0.6},
            "clipped": {**KEYPOINTS, "image_sizes": [[40.0, 44.0], [24.0, 30.0]]},
            "score-by-distance": {**KEYPOINTS, "ranking": "score_by_distance"},
            "score-by-scaled-distance": {**KEYPOINTS, "ranking": "score_by_scaled_distance"},
            "gaussian": {**KEYPOINTS, "ranking": "gaussian", "spreads": [1.0, 2.5, 4.0]},
        },
        empty_shapes={
            "no-image": {**KEYPOINTS, "images": 0},
            "no-detection": {**KEYPOINTS, "k": 0},
            "no-keypoint": {**KEYPOINTS, "keypoints": 0},
            "no-candidate": {**KEYPOINTS, "candidates": 0},
        },
        bad=(
            ("flat-heatmap", change(heatmap=lambda t: t[0]), "heatmap"),
            ("odd-regression", change(regression=lambda t: t[:, 1:]), "regression"),
            ("odd-offset", change(offset=lambda t: t[:, 1:]), "offset"),
            ("short-boxes", change(boxes=lambda t: t[..., :3]), "boxes"),
            ("even-kernel", change(kernel=2), "kernel"),
            ("negative-tolerance", change(tolerance=-0.1), "tolerance"),
            ("unknown-ranking", change(ranking="best"), "ranking"),
            ("gaussian-without-spreads", change(ranking="gaussian"), "ranking"),
            ("no-stride", change(stride=0.0), "stride"),
        ),
        hostile=hostile_joints,
    ),
    OpCase(
        name="draw_gaussians",
        call=ops.draw_gaussians,
        oracle=draw_gaussians,
        inputs=objects,
        native=objects_native,
        shapes={
            "two-images": {"size": (2, 3, 14, 19), "objects": 8},
            "weights": {"size": (1, 2, 9, 33), "objects": 5, "weights": True},
            "channels-last": {"size": (2, 3, 40, 5), "objects": 6, "weights": True, "channels_last": True},
        },
        large={"size": (2, 3, 200, 250), "objects": 8},
        empty_shapes={
            "no-image": {"size": (0, 3, 4, 4), "objects": 2},
            "no-class": {"size": (2, 0, 4, 4), "objects": 2},
            "no-cell": {"size": (2, 3, 4, 0), "objects": 2},
            "no-object": {"size": (2, 3, 4, 4), "objects": 0},
        },
        bad=(
            ("three-sizes", change(shape=lambda s: s[1:]), "shape"),
            ("other-images", change(shape=lambda s: (s[0] + 1, *s[1:])), "shape"),
            ("listed-centers", change(centers=lambda t: t.tolist()), "centers"),
            ("flat-centers", change(centers=lambda t: t[..., 0]), "centers"),
            ("other-sigmas", change(sigmas=lambda t: t[:, 1:]), "sigmas"),
            ("float-classes", change(classes=lambda t: t.float()), "classes"),
            ("other-weights", change(weights=torch.ones(1)), "weights"),
        ),
        hostile=hostile_objects,
    ),
]
