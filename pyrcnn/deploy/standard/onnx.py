"""Whole detectors in ONNX: how the operators that stay in the program become ONNX's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..programs.modules import FromImages, program
from ..quiet import without_warnings
from . import to_standard
from .suppress import NONE

OPSET = 18


def _translations() -> dict[Any, Callable[..., Any]]:
    """Operator → function that builds ONNX nodes, for the converter."""
    from onnxscript import opset18 as op
    from onnxscript.onnx_types import FLOAT, INT64  # noqa: F401  (of annotations)

    def ints(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    def number(value: float) -> Any:
        return op.Constant(value_float=float(value))

    def pillow_weights(size: Any, new_size: Any) -> tuple[Any, Any]:
        """Pillow's bilinear weights [new_size, size] along a side, of sizes [1], in 2**-11 and 2**-22."""

        def double(value: float) -> Any:
            return op.Cast(number(value), to=11)

        def centres(count: Any) -> Any:
            return op.Add(op.Range(double(0), op.Squeeze(count), double(1)), double(0.5))

        ratio = op.Div(size, new_size)
        middle = op.Unsqueeze(op.Mul(centres(new_size), ratio), ints(1))
        away = op.Div(op.Abs(op.Sub(op.Unsqueeze(centres(size), ints(0)), middle)), op.Max(ratio, double(1)))
        triangle = op.Max(op.Sub(double(1), away), double(0))
        share = op.Div(triangle, op.ReduceSum(triangle, ints(1)))
        whole = op.Floor(op.Add(op.Mul(share, double(2**22)), double(0.5)))
        high = op.Floor(op.Div(whole, double(2**11)))
        return op.Cast(high, to=1), op.Cast(op.Sub(whole, op.Mul(high, double(2**11))), to=1)

    def resize_as_pillow(pixels: Any, old: Any, new: Any) -> Any:
        """Along x, then y, rounded to bytes after each. Sums of either part of the weights are exact in float32."""

        def rounded(high: Any, low: Any) -> Any:
            high, low = (op.Cast(part, to=6) for part in (high, low))
            total = op.Add(op.Add(op.Mul(high, integer(2**11)), low), integer(2**21))
            return op.Cast(op.Div(total, integer(2**22)), to=1)

        def integer(value: int) -> Any:
            return op.Cast(op.Constant(value_int=value), to=6)

        old, new = (op.Cast(sides, to=11) for sides in (old, new))
        down, across = (
            pillow_weights(*(op.Slice(sides, ints(i), ints(i + 1)) for sides in (old, new))) for i in (0, 1)
        )
        pixels = rounded(*(op.MatMul(pixels, op.Transpose(part, perm=[1, 0])) for part in across))
        return rounded(*(op.MatMul(part, pixels) for part in down))

    def suppress(boxes: Any, scores: Any, iou_threshold: float, most: int) -> Any:
        found = op.NonMaxSuppression(
            boxes, op.Unsqueeze(scores, ints(1)), ints(most), number(iou_threshold), number(NONE / 2)
        )  # [M, 3]: row, 0, box
        places = op.Gather(found, ints(0, 2), axis=1)
        ones = op.Expand(number(1.0), op.Slice(op.Shape(found), ints(0), ints(1)))
        zeros = op.Mul(scores, number(0.0))
        return op.Greater(op.ScatterND(zeros, places, ones), number(0.5))

    def roi_align(features: Any, rois: Any, scales: Any, height: int, width: int, sampling_ratio: int, aligned: bool,
                  canonical_size: float, canonical_level: int) -> Any:  # fmt: skip
        image = op.Cast(op.Squeeze(op.Slice(rois, ints(0), ints(1), ints(1)), ints(1)), to=7)
        boxes = op.Slice(rois, ints(1), ints(5), ints(1))
        return op.RoiAlign(
            features[0], boxes, image, output_height=height, output_width=width,
            sampling_ratio=max(sampling_ratio, 0), spatial_scale=float(scales[0]), mode="avg",
            coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
        )  # fmt: skip

    def roi_pool(features: Any, rois: Any, scale: float, height: int, width: int, argmax_bits: int) -> Any:
        pooled = op.MaxRoiPool(features, rois, pooled_shape=[height, width], spatial_scale=float(scale))
        return pooled, op.Cast(pooled, to=7)  # nothing reads where the maxima were

    def accept_images(images: Any, shape: Any, resize: str, shorter: int, longer: int, multiple: int, mean: Any,
                      std: Any, shift: float, white: float, bgr: bool, dtype: int, channels_last: bool, device: str,
                      isa: str) -> Any:  # fmt: skip
        count = op.Shape(images, start=0, end=1)
        old = op.Cast(op.Shape(images, start=2, end=4), to=1)
        # Not ReduceMin and ReduceMax, which OpenVINO 2026 reads otherwise without axes.
        sides = op.Slice(old, ints(0), ints(1)), op.Slice(old, ints(1), ints(2))
        low, high = op.Min(*sides), op.Max(*sides)
        if resize == "none":
            new = old
        elif resize == "square":
            new = op.Round(op.Mul(old, op.Div(number(longer), high)))
        else:
            scale = op.Min(op.Div(number(shorter), low), op.Div(number(longer), high))
            # A product that is an integer but for float32's rounding counts as this integer, as it does in float64.
            new = op.Mul(old, scale)
            nearest = op.Round(new)
            exact = op.Less(op.Abs(op.Sub(new, nearest)), op.Mul(new, number(3e-7)))
            rounded = op.Floor(new) if resize == "torchvision" else op.Floor(op.Add(new, number(0.5)))
            new = op.Where(exact, nearest, rounded)
        new = op.Max(new, number(1.0))
        sizes = op.Cast(new, to=7)  # [2]
        pixels = op.Cast(images, to=1)
        if bgr:
            pixels = op.Gather(pixels, ints(2, 1, 0), axis=1)
        if resize == "detectron2":
            pixels = resize_as_pillow(pixels, old, sizes)
        else:
            pixels = op.Resize(
                pixels, None, None, op.Concat(count, ints(3), sizes, axis=0), mode="linear",
                coordinate_transformation_mode="asymmetric" if resize == "square" else "half_pixel",
            )  # fmt: skip
        if resize == "square":
            padded = ints(longer, longer)
        else:
            padded = op.Mul(op.Div(op.Add(sizes, ints(multiple - 1)), ints(multiple)), ints(multiple))
        rest = op.Concat(ints(0, 0, 0, 0, 0, 0), op.Sub(padded, sizes), axis=0)
        if resize == "square":
            pixels = op.Pad(pixels, rest, number(0.0))
        channels = [op.Reshape(op.Constant(value_floats=[float(v) for v in values]), ints(1, 3, 1, 1))
                    for values in (mean, std)]  # fmt: skip
        pixels = op.Mul(pixels, number(white / 255)) if white != 255 else pixels
        pixels = op.Sub(op.Div(op.Sub(pixels, channels[0]), channels[1]), number(shift))
        if resize != "square":
            pixels = op.Pad(pixels, rest, number(0.0))
        pairs = op.Concat(count, ints(2), axis=0)
        return pixels, op.Expand(op.Unsqueeze(sizes, ints(0)), pairs), op.Expand(
            op.Unsqueeze(op.Div(new, old), ints(0)), pairs)  # fmt: skip

    def sort(values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
        count = op.Gather(op.Shape(values), ints(dim))
        return op.TopK(values, count, axis=dim, largest=int(descending))  # of equal ones, the first comes first

    return {
        torch.ops.aten.sort.stable: sort,
        torch.ops.pyrcnn_standard.suppress.default: suppress,
        torch.ops.pyrcnn.roi_align.default: roi_align,
        torch.ops.pyrcnn.roi_pool.default: roi_pool,
        torch.ops.pyrcnn._accept_images.default: accept_images,
    }


def onnx_program(module: FromImages) -> Any:
    """``module`` as an ONNX program of standard operators (opset :data:`OPSET`).

    It takes ``images`` and returns ``boxes``, ``scores``, ``labels``, ``counts`` and, where the model has them,
    ``keypoints``.
    """
    with without_warnings(), torch.no_grad():
        standard = to_standard(program(module))
        names = ["boxes", "scores", "labels", "counts", "keypoints"]
        outputs = len(standard.graph_signature.user_outputs)
        made = torch.onnx.export(standard, (), input_names=["images"], output_names=names[:outputs], dynamo=True,
                                 opset_version=OPSET, custom_translation_table=_translations(),
                                 verbose=False)  # fmt: skip
    assert made is not None
    return made


def writer(module: FromImages, metadata: dict[str, str]) -> Callable[[Path], object]:
    """What writes ``module`` with ``metadata`` to a new file."""
    made = onnx_program(module)
    made.model.metadata_props.update(metadata)
    return lambda path: made.save(path, external_data=False)
