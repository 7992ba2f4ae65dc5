"""Images to network input: resizing, padding and normalising, one named function per convention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ops
from ..errors import require
from ..images import load_image as load_image  # callers import both from here
from ..images import load_images as load_images
from ..memory import upload
from ..ops._register import input_errors, no_gradient, register_fake

_pillow_op = torch.ops.pyrcnn._resize_as_pillow.default


def count_images(images: Any) -> int:
    """The number of images that a caller passes; :class:`pyrcnn.InputError` if it is no list of them."""
    require(hasattr(images, "__len__"), f"images must be a list of images, got {type(images).__name__}")
    return len(images)


# ---- resizing --------------------------------------------------------------------------------------------------------


def keep_aspect(height: int, width: int, size: int) -> tuple[int, int]:
    """The height and width that make the longer side ``size``, rounded half to even in float32."""
    ratio = min(np.float32(size) / np.float32(height), np.float32(size) / np.float32(width))
    new = (int(np.rint(np.float32(side) * ratio)) for side in (height, width))
    new_height, new_width = (max(side, 1) for side in new)
    return new_height, new_width


def fit_square(
    images: Sequence[Tensor], size: int, convention: str = "raw", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """TensorFlow's keep-aspect resizer: the longer side becomes ``size``, with black padding at the bottom and right.

    Samples as TensorFlow 1 does (no half-pixel centres), in one native pass with bit-identical results. The padding is
    normalised with the image by ``convention``, a name of ``NORMALIZATIONS``. Returns pixels [N, 3, size, size],
    sizes [N, 2] (h, w) of the images without padding, scales [N, 2] (y, x), new per old.
    """
    n = normalization(convention)
    sizes = [keep_aspect(image.shape[-2], image.shape[-1], size) for image in images]
    scales = [(new[0] / i.shape[-2], new[1] / i.shape[-1]) for new, i in zip(sizes, images, strict=True)]
    pixels = ops.preprocess(
        images, (size, size), n.mean, n.std, sizes, n.shift, n.white, legacy=True, bgr=n.bgr, dtype=dtype
    )
    return pixels, upload(torch.tensor(sizes), pixels.device), upload(torch.tensor(scales), pixels.device)


def shorter_side(height: int, width: int, shorter: int, longer: int) -> tuple[int, int]:
    """torchvision's size: the shorter side becomes ``shorter`` unless the longer would exceed ``longer``, floored."""
    scale = min(shorter / min(height, width), longer / max(height, width))
    return max(math.floor(height * scale), 1), max(math.floor(width * scale), 1)


def shorter_side_rounded(height: int, width: int, shorter: int, longer: int) -> tuple[int, int]:
    """detectron2's size: as :func:`shorter_side`, rounded to the nearest."""
    scale = shorter / min(height, width)
    if max(height, width) * scale > longer:
        scale = longer / max(height, width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize_half_pixel(image: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resize of [3, H, W] to floats 0..1, with torch's own rounding of where to sample (torchvision)."""
    values = image.float() if image.is_floating_point() else image.float() / 255
    return F.interpolate(values[None], (height, width), mode="bilinear", align_corners=False)[0]


@input_errors
def resize_as_pillow(image: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resize of [3, H, W], uint8 or 0..1, to uint8: bit-identical to Pillow's, which smooths as it shrinks."""
    return _pillow_op(image, height, width)


@register_fake("_resize_as_pillow")
def _(image: Tensor, height: int, width: int) -> Tensor:
    return image.new_empty((3, height, width), dtype=torch.uint8)


no_gradient("_resize_as_pillow")


# How images are resized: the rule for the new size, and the function that resamples before normalising. None: the pass
# that normalises also resamples, bilinearly with half-pixel centres and without smoothing.
RESIZES: dict[str, tuple[Callable[[int, int, int, int], tuple[int, int]], Callable[..., Tensor] | None]] = {
    "torchvision": (shorter_side, resize_half_pixel),
    "detectron2": (shorter_side_rounded, resize_as_pillow),
    "paper": (shorter_side_rounded, None),
    "none": (lambda height, width, shorter, longer: (height, width), None),
}


def resized_sides(images: Sequence[Tensor], shorter: int, longer: int, resize: str) -> list[tuple[int, int]]:
    """The height and width that each image [3, H, W] is resized to, by a name of ``RESIZES``."""
    require(resize in RESIZES, f"resize must be one of {list(RESIZES)}, got {resize!r}")
    return [RESIZES[resize][0](image.shape[-2], image.shape[-1], shorter, longer) for image in images]


def padded_sides(
    images: Sequence[Tensor], shorter: int, longer: int, resize: str, multiple: int = 32
) -> tuple[int, int]:
    """The smallest height and width, multiples of ``multiple``, that hold all resized images."""
    sizes = resized_sides(images, shorter, longer, resize)
    height, width = (-(-max(side) // multiple) * multiple for side in zip(*sizes, strict=True))
    return height, width


class Resizing(NamedTuple):
    """How a detector makes its network input: the arguments of :func:`fit_square` or :func:`fit_sides`.

    ``rule``: "square" for :func:`fit_square`, whose size is ``longer``; otherwise a name of ``RESIZES``.
    ``convention``: a name of ``NORMALIZATIONS``.
    """

    rule: str
    shorter: int
    longer: int
    multiple: int
    convention: str


def fit_sides(
    images: Sequence[Tensor],
    shorter: int,
    longer: int,
    resize: str,
    convention: str,
    multiple: int = 32,
    dtype: torch.dtype = torch.float32,
    size: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Resize each image by its shorter side, normalise it, and pad all with zeros at the bottom and right to one size.

    ``resize`` is a name of ``RESIZES``, ``convention`` one of ``NORMALIZATIONS``. Both sides become multiples of
    ``multiple``, or those of ``size`` (height, width), which must be at least as large. Returns pixels [N, 3, H, W],
    sizes [N, 2] (h, w) of the images without padding, scales [N, 2] (y, x), new per old.
    """
    n = normalization(convention)
    sizes = resized_sides(images, shorter, longer, resize)
    resampled = RESIZES[resize][1]
    scales = [(new[0] / i.shape[-2], new[1] / i.shape[-1]) for new, i in zip(sizes, images, strict=True)]
    height, width = size or padded_sides(images, shorter, longer, resize, multiple)
    if resampled is not None:
        images = [resampled(image, *new) for image, new in zip(images, sizes, strict=True)]
    pixels = ops.preprocess(
        images, (height, width), n.mean, n.std, sizes, n.shift, n.white, bgr=n.bgr, pad_normalized=True, dtype=dtype
    )
    return pixels, upload(torch.tensor(sizes), pixels.device), upload(torch.tensor(scales), pixels.device)


# ---- normalising (0..255 in RGB → what the network was trained on) ---------------------------------------------------


class Normalization(NamedTuple):
    """``(x - mean) / std - shift`` per channel, x from 0 to ``white``; ``bgr``: the channels are swapped first."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: float = 0.0
    white: float = 255.0
    bgr: bool = False


NORMALIZATIONS = {
    "raw": Normalization(),
    # TF's MobileNetV2 and ResNet V2: x / 127.5 - 1
    "unit": Normalization(std=(127.5, 127.5, 127.5), shift=1.0),
    # Keras' ResNet V1, as in Caffe: not scaled
    "caffe": Normalization((103.939, 116.779, 123.68), bgr=True),
    # Hourglass, from ExtremeNet: COCO's mean and deviation
    "extremenet": Normalization(
        (104.01362025, 114.03422265, 119.9165958), (73.6027665, 69.89082075, 70.9150767), bgr=True
    ),
    # torchvision
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), white=1.0),
    # TF's Faster R-CNN: not scaled
    "zoo_rgb": Normalization((123.68, 116.779, 103.939)),
    # detectron2's models from MSRA's weights: not scaled
    "detectron2": Normalization((103.53, 116.28, 123.675), bgr=True),
    # Faster R-CNN's authors: not scaled
    "paper": Normalization((102.9801, 115.9465, 122.7717), bgr=True),
}


def normalization(convention: str) -> Normalization:
    """The entry of ``NORMALIZATIONS``, or an :class:`pyrcnn.InputError` that names them."""
    require(convention in NORMALIZATIONS, f"normalization must be one of {list(NORMALIZATIONS)}, got {convention!r}")
    return NORMALIZATIONS[convention]


def normalize(pixels: Tensor, convention: str) -> Tensor:
    """RGB 0..255 [..., 3, H, W] → the network's own channels, by a name of ``NORMALIZATIONS``."""
    n = normalization(convention)
    if n.bgr:
        pixels = pixels.flip(-3)
    mean, std = pixels.new_tensor(n.mean)[:, None, None], pixels.new_tensor(n.std)[:, None, None]
    return (pixels / (255 / n.white) - mean) / std - n.shift
