"""The first operators of exported programs: they refuse what the compiled code cannot take, and convert the rest.

A compiled program reads its inputs with the shape, strides and dtype that it was compiled for, whatever they are. An
operator that comes first sees the caller's tensors. Private: CPU and CUDA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...models.preprocess import RESIZES, Resizing, normalization
from ...ops._register import input_errors, no_gradient, register_fake

_pixels_op = torch.ops.pyrcnn._accept_pixels.default
_images_op = torch.ops.pyrcnn._accept_images.default
ANY = -1


class Wanted(NamedTuple):
    """What a program is exported for.

    ``shape`` of the input [N, C, H, W], :data:`ANY` where it may vary; ``dtype`` and memory format of the network
    input; ``device``: "cpu" or "cuda"; ``isa``: the instruction set that the program is compiled for, "default", "avx2"
    or "avx512", or "" for any.
    """

    shape: Sequence[int]
    dtype: torch.dtype
    channels_last: bool
    device: str
    isa: str = ""


@input_errors
def accept_pixels(pixels: Tensor, sizes: Tensor, wanted: Wanted, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Return copies of ``pixels`` and ``sizes`` as the program behind it wants them.

    Args:
        pixels: [N, C, H, W], any floating dtype and strides.
        sizes: [N, 2] height and width of each image in them, int64 or int32.
        wanted: what is accepted and returned.
        multiple: divides a height and width that may vary.

    Returns:
        pixels in the dtype and memory format of ``wanted``; sizes int64.

    Raises:
        InputError: for another shape, dtype, device or processor.
    """
    return _pixels_op(pixels, sizes, list(wanted.shape), multiple, wanted.dtype, wanted.channels_last,
                      wanted.device, wanted.isa)  # fmt: skip


@input_errors
def accept_images(images: Tensor, wanted: Wanted, resizing: Resizing) -> tuple[Tensor, Tensor, Tensor]:
    """Return the network input for a batch of images of one size, as ``Detector.preprocess``.

    Args:
        images: [N, 3, H, W] RGB, uint8 (0..255) or floating point (0..1), any strides.
        wanted: what is accepted, and the dtype and memory format of the network input.
        resizing: how images are resized and normalised.

    Returns:
        pixels [N, 3, height, width], sizes [N, 2] (h, w) in them without padding, int64, and scales [N, 2] (y, x), new
        per old, float32.

    Raises:
        InputError: for another shape, dtype, device or processor.
    """
    n = normalization(resizing.convention)
    return _images_op(
        *(images, list(wanted.shape), *resizing[:4], n.mean, n.std, n.shift, n.white, n.bgr),
        *(wanted.dtype, wanted.channels_last, wanted.device, wanted.isa),
    )


def _batch(like: Tensor, size: Sequence[int], dtype: torch.dtype, channels_last: bool) -> Tensor:
    batch = like.new_empty(tuple(size), dtype=dtype)
    return batch.contiguous(memory_format=torch.channels_last) if channels_last else batch


def _multiple_of(multiple: int) -> Any:
    return multiple * torch.library.get_ctx().new_dynamic_size(min=1)


@register_fake("_accept_pixels")
def _(
    pixels: Tensor,
    sizes: Tensor,
    shape: list[int],
    multiple: int,
    dtype: torch.dtype,
    channels_last: bool,
    device: str,
    isa: str,
) -> tuple[Tensor, Tensor]:
    count = pixels.shape[0] if shape[0] == ANY else shape[0]
    height, width = (_multiple_of(multiple) if side == ANY else side for side in shape[2:])
    return (
        _batch(pixels, (count, shape[1], height, width), dtype, channels_last),
        sizes.new_empty((count, 2), dtype=torch.int64),
    )


@register_fake("_accept_images")
def _(
    images: Tensor,
    shape: list[int],
    resize: str,
    shorter: int,
    longer: int,
    multiple: int,
    mean: list[float],
    std: list[float],
    shift: float,
    white: float,
    bgr: bool,
    dtype: torch.dtype,
    channels_last: bool,
    device: str,
    isa: str,
) -> tuple[Tensor, Tensor, Tensor]:
    count = images.shape[0] if shape[0] == ANY else shape[0]
    if resize == "square":
        height, width = longer, longer
    elif ANY in shape[2:]:
        height, width = _multiple_of(multiple), _multiple_of(multiple)
    else:
        new = RESIZES[resize][0](shape[2], shape[3], shorter, longer)
        height, width = (-(-side // multiple) * multiple for side in new)
    return (
        _batch(images, (count, 3, height, width), dtype, channels_last),
        images.new_empty((count, 2), dtype=torch.int64),
        images.new_empty((count, 2), dtype=torch.float32),
    )


no_gradient("_accept_pixels")
no_gradient("_accept_images")
