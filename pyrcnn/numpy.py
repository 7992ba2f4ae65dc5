"""Operators on NumPy arrays: the kernels of :mod:`pyrcnn.ops` without tensors and without importing torch.

For pipelines in ONNX Runtime, OpenVINO or TensorFlow Lite, whose outputs are arrays. Arguments are read where they lie;
results are arrays over the memory that the kernel filled. Of the installed torch, only the library ``libtorch_cpu.so``
is loaded.

Functions have the names, arguments and results of :mod:`pyrcnn.ops`. Arrays are float32, float64, float16 or the
``bfloat16`` of ml_dtypes. The letters of shapes are those of :mod:`pyrcnn.structures`. Bad arguments raise
:class:`pyrcnn.InputError`.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import _library
from .errors import InputError

__all__ = ["Peaks", "batched_nms", "box_iou", "decode_centers", "heatmap_peaks", "nms", "nms_padded", "roi_detections"]

P = ParamSpec("P")
R = TypeVar("R")
Array = NDArray[Any]
_DELTA_CLIP = math.log(1000 / 16)


def _load() -> Any:
    _library.check_exists()
    _library.load_libtorch()
    try:
        module = importlib.import_module("pyrcnn._C")
    except ModuleNotFoundError:
        raise ImportError(
            f"pyrcnn.numpy needs the module _C for {_library.python()}, which this installation lacks; "
            "pyrcnn.ops works without it. Build it under this Python: pip install --no-binary pyrcnn pyrcnn"
        ) from None
    _library.build_info()  # raises if no kernel can run
    return module


_C = _load()


def _input_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function`` with errors of native argument checks raised as :class:`pyrcnn.InputError`."""

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            raise InputError(str(error).partition("\n[pyrcnn: bad argument]")[0]) from None

    return checked


def _array(name: str, value: Any) -> Array:
    """``value`` as an array: an array, or what NumPy makes one of without computing (a tensor on the CPU, a list)."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{name} must be an array, got {type(value).__name__}: {error}") from None


@_input_errors
def nms(boxes: Array, scores: Array, iou_threshold: float) -> NDArray[np.int64]:
    """Return the indices of the boxes that remain after non-maximum suppression, as :func:`pyrcnn.ops.nms`.

    Args:
        boxes: [K, 4] x1 y1 x2 y2.
        scores: [K], of the same dtype.
        iou_threshold: IoU above which the lower-scored box is dropped.

    Returns:
        [D] int64, in descending order of score, ties by lower index.

    Raises:
        InputError: for wrong shapes or dtypes.

    Example:
        >>> boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]], np.float32)
        >>> nms(boxes, np.array([0.8, 0.9, 0.7], np.float32), 0.5)
        array([1, 2])
    """
    return _C.nms(_array("boxes", boxes), _array("scores", scores), iou_threshold)


@_input_errors
def batched_nms(boxes: Array, scores: Array, idxs: Array, iou_threshold: float) -> NDArray[np.int64]:
    """Return the indices of the boxes that remain after :func:`nms` within each category.

    Args:
        boxes: [K, 4] x1 y1 x2 y2.
        scores: [K], of the same dtype.
        idxs: [K] the category of each box: any integers, or floating-point numbers, of which equal ones are a category.
        iou_threshold: IoU above which the lower-scored box is dropped.

    Returns:
        [D] int64, in descending order of score, ties by lower index.

    Raises:
        InputError: for wrong shapes or dtypes.

    Example:
        >>> boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10]], np.float32)
        >>> batched_nms(boxes, np.array([0.8, 0.9, 0.7], np.float32), np.array([0, 0, 1]), 0.5)
        array([1, 2])
    """
    category = _array("idxs", idxs)
    if category.dtype.kind == "f":
        category = (category.astype(np.float64) + 0.0).view(np.int64)  # + 0.0 turns -0.0 into 0.0
    elif category.dtype.kind in "iub":
        category = category.astype(np.int64, copy=False)
    return _C.batched_nms(_array("boxes", boxes), _array("scores", scores), category, iou_threshold)


@_input_errors
def nms_padded(
    boxes: Array,
    scores: Array,
    iou_threshold: float,
    max_output: int,
    groups: Array | None = None,
    score_threshold: float = -math.inf,
    valid: Array | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what remains after suppression in each image of a batch, as :func:`pyrcnn.ops.nms_padded`.

    Args:
        boxes: [N, K, 4] x1 y1 x2 y2.
        scores: [N, K], of the same dtype.
        iou_threshold: IoU above which the lower-scored box is dropped.
        max_output: how many boxes an image may keep.
        groups: [N, K] int64 or int32, the group of each box; None for one group per image.
        score_threshold: scores must exceed this.
        valid: [N] int64 or int32, how many leading boxes of each image count; None for all.

    Returns:
        indices [N, max_output] int64 in descending order of score, padded with -1, and counts [N] int64.

    Raises:
        InputError: for wrong shapes or dtypes.

    Example:
        >>> boxes = np.array([[[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]]], np.float32)
        >>> nms_padded(boxes, np.array([[0.8, 0.9, 0.7]], np.float32), 0.5, max_output=4)
        (array([[ 1,  2, -1, -1]]), array([2]))
    """
    return _C.nms_padded(
        _array("boxes", boxes), _array("scores", scores), iou_threshold, max_output,
        None if groups is None else _array("groups", groups), score_threshold,
        None if valid is None else _array("valid", valid),
    )  # fmt: skip


@_input_errors
def box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Return the intersection over union [..., K1, K2] of every pair of boxes of two lists; 0 / 0 is NaN.

    Args:
        boxes1: [..., K1, 4] x1 y1 x2 y2.
        boxes2: [..., K2, 4], of the same dtype; the leading dimensions broadcast.

    Returns:
        float32, or float64 for float64 boxes.

    Raises:
        InputError: for wrong shapes or dtypes.

    Example:
        >>> box_iou(np.array([[0, 0, 4, 2]], np.float32), np.array([[2, 0, 4, 2], [4, 0, 5, 2]], np.float32))
        array([[0.5, 0. ]], dtype=float32)
    """
    first, second = _array("boxes1", boxes1), _array("boxes2", boxes2)
    if first.ndim > 1 and second.ndim > 1 and first.shape[:-2] != second.shape[:-2]:
        images = np.broadcast_shapes(first.shape[:-2], second.shape[:-2])
        first, second = (np.broadcast_to(b, (*images, *b.shape[-2:])) for b in (first, second))
    return _C.box_iou(first, second)


class Peaks(NamedTuple):
    """The largest local maxima of heatmaps: what :func:`heatmap_peaks` returns.

    Attributes:
        scores: [N, k] float32 (float64 for float64 heatmaps); 0 where a peak is missing.
        classes: [N, k] int64.
        ys: [N, k] int64, rows of the heatmap.
        xs: [N, k] int64, columns of the heatmap.

    Example:
        >>> peaks = heatmap_peaks(np.eye(4, dtype=np.float32)[None, None], k=4, sigmoid=False)
        >>> peaks.ys[peaks.scores > 0.5]
        array([0, 1, 2, 3])
    """

    scores: Array
    classes: NDArray[np.int64]
    ys: NDArray[np.int64]
    xs: NDArray[np.int64]


@_input_errors
def heatmap_peaks(
    heatmap: Array, k: int, kernel: int = 3, sigmoid: bool = True, tolerance: float = 0.0, per_class: bool = False
) -> Peaks:
    """Return the k largest local maxima of each image's heatmaps, as :func:`pyrcnn.ops.heatmap_peaks`.

    Args:
        heatmap: [N, C, H, W] logits, or scores with ``sigmoid=False``; C-contiguous or NHWC memory is read in place.
        k: how many peaks of an image (of a class, with ``per_class``).
        kernel: the side of the square in which a peak is the maximum, an odd number of cells.
        sigmoid: apply the sigmoid to the values.
        tolerance: how far below the maximum of its square a peak may be.
        per_class: rank the peaks of each class by themselves.

    Returns:
        ``Peaks(scores, classes, ys, xs)``, each [N, k] ([N, C, k] with ``per_class``).

    Raises:
        InputError: for a wrong shape, dtype, ``k`` or ``kernel``.

    Example:
        >>> heatmap = np.zeros((1, 2, 4, 4), np.float32)
        >>> heatmap[0, 1, 2, 3] = 5.0
        >>> peaks = heatmap_peaks(heatmap, k=1)
        >>> peaks.classes.item(), peaks.ys.item(), peaks.xs.item()
        (1, 2, 3)
    """
    return Peaks(*_C.heatmap_peaks(_array("heatmap", heatmap), k, kernel, sigmoid, tolerance, per_class))


@_input_errors
def decode_centers(
    ys: Array, xs: Array, size: Array, offset: Array, stride: float, clamp_size: bool = True, clip: bool = True
) -> Array:
    """Return the boxes [N, k, 4] of objects centred in given cells, as :func:`pyrcnn.ops.decode_centers`.

    Args:
        ys, xs: [N, k] int64 cells, from :func:`heatmap_peaks`.
        size: [N, 2, H, W] height and width, in cells.
        offset: [N, 2, H, W] y and x, in cells.
        stride: input pixels per cell.
        clamp_size: count negative sizes as 0.
        clip: clip the boxes to the feature map.

    Returns:
        x1 y1 x2 y2 in input pixels; float32, or float64 for float64 maps.

    Raises:
        InputError: for wrong shapes or dtypes.

    Example:
        >>> cell, twos, halves = np.array([[1]]), np.full((1, 2, 4, 4), 2.0), np.full((1, 2, 4, 4), 0.5)
        >>> decode_centers(cell, cell, twos, halves, stride=4)
        array([[[ 2.,  2., 10., 10.]]])
    """
    cells = _array("ys", ys), _array("xs", xs)
    return _C.decode_centers(*cells, _array("size", size), _array("offset", offset), stride, clamp_size, clip)


@_input_errors
def roi_detections(
    class_logits: Array,
    box_deltas: Array,
    proposals: Array,
    counts: Array,
    image_sizes: Array,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    max_detections: int = 100,
    weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
    clip: float = _DELTA_CLIP,
    min_size: float = 0.01,
    background_first: bool = True,
    max_per_class: int | None = None,
) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.int64]]:
    """Return the detections of a Faster R-CNN from its second stage, as :func:`pyrcnn.ops.roi_detections`.

    Args:
        class_logits: [N, P, C+1], including background.
        box_deltas: [N, P, 4C] or [N, P, 4].
        proposals: [N, P, 4] x1 y1 x2 y2.
        counts: [N] int64 or int32, how many proposals of each image count.
        image_sizes: [N, 2] height and width.
        score_threshold, nms_threshold, max_detections, weights, clip, min_size, background_first, max_per_class: as for
            :func:`pyrcnn.ops.roi_detections`.

    Returns:
        boxes [N, D, 4], scores [N, D], labels [N, D] (padded with -1) and counts [N].

    Raises:
        InputError: for wrong shapes or dtypes.

    Example:
        >>> logits, proposals = np.array([[[0.0, 3.0, 0.0]]]), np.array([[[2.0, 2.0, 6.0, 6.0]]])
        >>> boxes, scores, labels, counts = roi_detections(
        ...     logits, np.zeros((1, 1, 4)), proposals, np.array([1]), np.array([[8, 8]]), max_detections=1
        ... )
        >>> boxes.tolist(), labels.tolist(), counts.tolist()
        ([[[2.0, 2.0, 6.0, 6.0]]], [[0]], [1])
    """
    arrays = {"class_logits": class_logits, "box_deltas": box_deltas, "proposals": proposals, "counts": counts,
              "image_sizes": image_sizes}  # fmt: skip
    return _C.roi_detections(
        *(_array(name, value) for name, value in arrays.items()), score_threshold, nms_threshold, max_detections,
        [float(w) for w in weights], clip, min_size, background_first,
        max_detections if max_per_class is None else max_per_class,
    )  # fmt: skip
