"""Scales grey images of more than 8 bits to 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

_SIXTEEN_BIT_FILES = {"PNG", "PPM"}  # Pillow gives 16-bit images of these formats as 32-bit integers
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF's tags
_BAND = 2**20  # pixels that are scaled at a time, which saves memory


def is_deep(image: Image.Image) -> bool:
    """Return whether ``image`` is grey with more than 8 bits per pixel."""
    return image.mode.startswith("I") or image.mode == "F"


def to_8_bits(image: Image.Image) -> Image.Image:
    """Return a deep grey ``image`` with 8 bits per pixel (mode L).

    Values of a file that states its number of bits (16, or 12 in TIFF) keep their upper 8 bits. Files of 32-bit
    integers and of floats do not state their largest value. It is taken to be 1 (floats only), 255 or 65535, the
    smallest of these that no pixel exceeds, otherwise the largest pixel. Negative values and NaN become 0.
    """
    scale = _shift(image) or _stretch(max(map(_largest, _bands(image)), default=0.0), image.mode == "F")
    return Image.fromarray(np.concatenate([scale(band) for band in _bands(image)]))


def _bands(image: Image.Image) -> Iterator[np.ndarray]:
    """Yield the pixels, some rows at a time; NaN as 0."""
    tags = getattr(image, "tag_v2", {})
    unsigned = image.mode == "I" and image.format == "TIFF" and tags.get(_SAMPLE_FORMAT, 1) in (1, (1,))
    rows = max(_BAND // image.width, 1)
    for top in range(0, image.height, rows):
        values = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        if unsigned:
            values = values.astype(np.uint32)  # Pillow keeps them in signed integers
        yield np.nan_to_num(values) if image.mode == "F" else values  # infinite values become the largest float


def _shift(image: Image.Image) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return what keeps the upper 8 bits of the bits that the file states; None if it states none."""
    tags = getattr(image, "tag_v2", {})
    if image.mode == "I" and image.format in _SIXTEEN_BIT_FILES:
        return lambda values: (values >> 8).clip(0, 255).astype(np.uint8)
    if not image.mode.startswith("I;16"):
        return None
    shift = 4 if tags.get(_BITS) in (12, (12,)) else 8
    inverted = 255 if tags.get(_PHOTOMETRIC) == 0 else 0  # white is zero
    return lambda values: (values >> shift).astype(np.uint8) ^ np.uint8(inverted)


def _largest(values: np.ndarray) -> float:
    if values.dtype.kind == "f":
        return float(values.max(initial=0, where=values < np.finfo(values.dtype).max))
    return float(values.max(initial=0))


def _stretch(largest: float, floating: bool) -> Callable[[np.ndarray], np.ndarray]:
    if floating and largest <= 1:
        factor = 255.0
    elif largest <= 255:
        factor = 1.0
    else:
        factor = 1 / 256 if largest <= 65535 else 255 / largest
    half = 0.0 if factor in (1, 1 / 256) else 0.5  # these drop the fraction, as Pillow does

    def scale(values: np.ndarray) -> np.ndarray:
        scaled = values.clip(0, largest).astype(np.float32) * np.float32(factor) + np.float32(half)
        return scaled.clip(0, 255).astype(np.uint8)

    return scale
