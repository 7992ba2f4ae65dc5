"""crop_and_resize and preprocess."""

from __future__ import annotations

import math
from typing import Any

import torch

from pyrcnn import ops
from tests.cases import TOLERANCE, Inputs, OpCase, Shape, change
from tests.reference.crop_and_resize import crop_and_resize
from tests.reference.preprocess import preprocess


def crops(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: Shape) -> Inputs:
    n, c, h, w = shape["size"]
    count = shape["boxes"]
    low, high = (torch.rand(count, 2, generator=generator) * s - 0.15 for s in (0.9, 1.3))
    inputs = {
        "features": torch.randn(n, c, h, w, generator=generator).to(device, dtype),
        "boxes": torch.cat((low, high), -1).to(device, torch.promote_types(dtype, torch.float32)),
        "box_indices": torch.randint(0, max(n, 1), (count,), generator=generator).to(device),
        "output_size": shape["output_size"],
    }
    if "extrapolation" in shape:
        inputs["extrapolation"] = shape["extrapolation"]
    return inputs


def crops_native(given: Inputs) -> tuple[Any, tuple[Any, ...]]:
    tensors = (given["features"], given["boxes"], given["box_indices"])
    return torch.ops.pyrcnn.crop_and_resize.default, (*tensors, *given["output_size"], 0.0)


def hostile_crops(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    given = crops(generator, device, dtype, {"size": (2, 3, 5, 6), "boxes": 6, "output_size": (3, 2)})
    wild = torch.tensor([-1, 2, 10**9, -(10**9), 2**62, 0], device=device)
    values = [math.nan, math.inf, -math.inf, 1e30, -1e30]
    boxes = [{**given, "boxes": torch.full_like(given["boxes"], v)} for v in values]
    mixed = torch.tensor([values[:4], values[1:]] * 3, device=device, dtype=given["boxes"].dtype)
    return [*boxes, {**given, "boxes": mixed}, {**given, "box_indices": wild}]


def images(generator: torch.Generator, device: torch.device, dtype: torch.dtype, shape: Shape) -> Inputs:
    images = []
    for i, (h, w) in enumerate(shape["images"]):
        bytes_ = torch.randint(0, 256, (h, w, 3), generator=generator, dtype=torch.uint8).permute(2, 0, 1)
        images.append((bytes_ if i % 2 == 0 else bytes_ / 256).to(device, torch.uint8 if i % 2 == 0 else dtype))
    options = {
        n: shape[n] for n in ("shift", "white", "legacy", "bgr", "pad_normalized", "channels_last") if n in shape
    }
    scale = shape.get("white", 1.0)
    return {
        "images": images,
        "size": shape["size"],
        "mean": [0.4 * scale, 0.5 * scale, 0.3 * scale],
        "std": [0.25 * scale, 0.5 * scale, 0.3 * scale],
        "sizes": shape["sizes"],
        **options,
    }


def images_native(given: Inputs) -> tuple[Any, tuple[Any, ...]]:
    heights, widths = ([pair[i] for pair in given["sizes"]] for i in (0, 1))
    arguments = (given["images"], heights, widths, *given["size"], given["mean"], given["std"])
    return torch.ops.pyrcnn.preprocess.default, (*arguments, 0.0, 1.0, False, False, False, torch.float32, False)


def hostile_images(generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> list[Inputs]:
    given = images(generator, device, dtype, IMAGES)
    return [
        {**given, "images": [torch.full_like(given["images"][1], v) for _ in range(2)]}
        for v in (math.nan, math.inf, -math.inf)
    ] + [{**given, "std": [0.0, math.nan, math.inf]}]


IMAGES = {"images": [(7, 9), (12, 5)], "size": (10, 12), "sizes": [(9, 12), (10, 4)]}
CASES = [
    OpCase(
        name="crop_and_resize",
        call=ops.crop_and_resize,
        oracle=crop_and_resize,
        inputs=crops,
        native=crops_native,
        shapes={
            "two-images": {"size": (2, 5, 9, 11), "boxes": 6, "output_size": (4, 5)},
            "many-channels": {"size": (1, 37, 6, 5), "boxes": 3, "output_size": (3, 3), "extrapolation": -1.5},
            "one-sample": {"size": (2, 3, 7, 6), "boxes": 5, "output_size": (1, 1)},
            "one-cell": {"size": (1, 2, 1, 1), "boxes": 4, "output_size": (2, 3)},
        },
        large={"size": (2, 37, 9, 11), "boxes": 200, "output_size": (7, 7)},
        empty_shapes={
            "no-box": {"size": (2, 3, 4, 5), "boxes": 0, "output_size": (2, 2)},
            "no-image": {"size": (0, 3, 4, 5), "boxes": 0, "output_size": (2, 2)},
            "no-channel": {"size": (2, 0, 4, 5), "boxes": 3, "output_size": (2, 2)},
        },
        grads=("features",),
        grad_shape={"size": (2, 2, 4, 5), "boxes": 5, "output_size": (3, 3)},
        bad=(
            ("flat-features", change(features=lambda t: t[0]), "features"),
            ("five-numbers", change(boxes=lambda t: t[:, :3]), "boxes"),
            ("half-boxes", change(boxes=lambda t: t.half()), "boxes"),
            ("float-indices", change(box_indices=lambda t: t.float()), "box_indices"),
            ("fewer-indices", change(box_indices=lambda t: t[1:]), "box_indices"),
            ("no-size", change(output_size=(0, 3)), "output_size"),
            ("half-a-pixel", change(output_size=1.5), "output_size"),
            ("three-sizes", change(output_size=(1, 2, 3)), "output_size"),
        ),
        hostile=hostile_crops,
        layouts=("features",),
    ),
    OpCase(
        name="preprocess",
        call=ops.preprocess,
        oracle=preprocess,
        inputs=images,
        native=images_native,
        shapes={
            "two-images": IMAGES,
            "legacy": {**IMAGES, "legacy": True, "white": 255.0, "bgr": True, "shift": 0.5},
            "padded-with-zeros": {**IMAGES, "pad_normalized": True},
            "channels-last": {**IMAGES, "channels_last": True},
        },
        bad=(
            ("no-image", change(images=[]), "images"),
            ("grey", change(images=lambda images: [i[:1] for i in images]), "images"),
            ("integers", change(images=lambda images: [i.int() for i in images]), "images"),
            ("flat", change(images=lambda images: [i[0, 0] for i in images], sizes=None), "images"),
            ("arrays", change(images=lambda images: [i.numpy() for i in images]), "images"),
            ("one-size", change(size=(4,)), "size"),
            ("a-number", change(size=4), "size"),
            ("too-large", change(size=(4, 4)), "sizes"),
            ("fewer-sizes", change(sizes=lambda s: s[1:]), "sizes"),
            ("two-means", change(mean=[0.0, 0.0]), "mean"),
            ("two-stds", change(std=[0.0, 0.0]), "std"),
            ("integer-dtype", change(dtype=torch.int32), "dtype"),
        ),
        hostile=hostile_images,
        # arithmetic is in float32 for every dtype of the images
        tolerance={**TOLERANCE, torch.float64: TOLERANCE[torch.float32]},
    ),
]
