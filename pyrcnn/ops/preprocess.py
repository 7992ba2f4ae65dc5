"""Images to a network's input, in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError, require
from ._register import input_errors, no_gradient, register_fake
from ._types import listed

_op = torch.ops.pyrcnn.preprocess.default


@input_errors
def preprocess(
    images: Sequence[Tensor],
    size: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    sizes: Sequence[Sequence[int]] | None = None,
    shift: float = 0.0,
    white: float = 1.0,
    legacy: bool = False,
    bgr: bool = False,
    pad_normalized: bool = False,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """Return a batch of images of any sizes, resized, normalized and padded: ``(value - mean) / std - shift``.

    Args:
        images: [3, H, W] RGB, uint8 (0..255) or floating point (0..1), in any memory layout, all on one device.
        size: (height, width) of the batch.
        mean, std: per channel of the output, in units in which white is ``white``.
        sizes: (height, width) that each image is resized to; the rest of ``size``, at the bottom and right, is padding.
            None: as large as fits into ``size`` at the image's aspect ratio.
        shift: subtracted at the end: ``mean=0, std=127.5, shift=1`` with ``white=255`` is exactly ``x / 127.5 - 1``.
        white: the value of white before ``mean`` is subtracted, usually 1 or 255.
        legacy: sample as TensorFlow 1 does, at ``i * (old / new)``; otherwise as torch's bilinear ``interpolate`` with
            ``align_corners=False``. Neither smooths when it shrinks an image. All arithmetic is in float32.
        bgr: swap the channels to BGR.
        pad_normalized: pad the normalized image with 0; otherwise pad the image with black before normalizing.
        dtype: of the result.
        channels_last: the memory format of the result.

    Returns:
        [N, 3, height, width], without a gradient.

    Raises:
        InputError: for wrong shapes, dtypes or devices.

    Example:
        >>> image = torch.full((3, 4, 8), 255, dtype=torch.uint8)
        >>> preprocess([image], (4, 4), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))[0, 0, :, 0]
        tensor([ 1.,  1., -1., -1.])
    """
    require(len(images) > 0, "images must hold at least one image, got none")
    for image in images:
        if not isinstance(image, Tensor) or image.dim() != 3:
            got = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise InputError(f"images must be [3, H, W] tensors, got {got}")
    require(isinstance(size, Sequence) and len(size) == 2, f"size must be (height, width), got {size}")
    require(dtype.is_floating_point, f"dtype must be floating point, got {dtype}")
    if sizes is None:
        sizes = [_fit_into(image.shape[-2], image.shape[-1], *size) for image in images]
    require(all(len(pair) == 2 for pair in sizes), f"sizes must be (height, width) pairs, got {sizes}")
    return _op(
        *(
            list(images),
            [h for h, _ in sizes],
            [w for _, w in sizes],
            size[0],
            size[1],
            listed("mean", mean),
            listed("std", std),
        ),
        *(shift, white, legacy, bgr, pad_normalized, dtype, channels_last),
    )


def _fit_into(height: int, width: int, max_height: int, max_width: int) -> tuple[int, int]:
    ratio = min(max_height / max(height, 1), max_width / max(width, 1))
    return (
        max(1, min(max_height, round(height * ratio))),
        max(1, min(max_width, round(width * ratio))),
    )


@register_fake("preprocess")
def _(
    images: list[Tensor],
    heights: list[int],
    widths: list[int],
    height: int,
    width: int,
    mean: list[float],
    std: list[float],
    shift: float,
    white: float,
    legacy: bool,
    bgr: bool,
    pad_normalized: bool,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    batch = images[0].new_empty((len(images), 3, height, width), dtype=dtype)
    return batch.contiguous(memory_format=torch.channels_last) if channels_last else batch


no_gradient("preprocess")
