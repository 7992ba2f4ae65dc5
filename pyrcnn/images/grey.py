"""Scales grey images of more than 8 bits to 8 bits."""

from __future__ import annotations

import numpy as np
from PIL import Image

_SIXTEEN_BIT_FILES = {"PNG", "PPM"}  # Pillow gives 16-bit images of these formats as 32-bit integers
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF's tags


def is_deep(image: Image.Image) -> bool:
    """Return whether ``image`` is grey with more than 8 bits per pixel."""
    return image.mode.startswith("I") or image.mode == "F"


def to_8_bits(image: Image.Image) -> Image.Image:
    """Return a deep grey ``image`` with 8 bits per pixel (mode L).

    Values of a file that states its number of bits (16, or 12 in TIFF) keep their upper 8 bits. Files of 32-bit
    integers and of floats do not state their largest value. It is taken to be 1 (floats only), 255 or 65535, the
    smallest of these that no pixel exceeds, otherwise the largest pixel. Negative values and NaN become 0.
    """
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        bits = _bits(tags)
        grey = (values >> (bits - 8)).astype(np.uint8)
        return Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC) == 0 else grey)  # 0: white is zero
    if image.mode == "I" and tags and tags.get(_SAMPLE_FORMAT, 1) in (1, (1,)):
        values = values.astype(np.uint32)  # Pillow keeps unsigned values in signed ones
    if image.mode == "I" and image.format in _SIXTEEN_BIT_FILES:
        return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
    return Image.fromarray(_stretch(values))


def _bits(tags: object) -> int:
    stated = tags.get(_BITS, 16) if hasattr(tags, "get") else 16
    stated = stated[0] if isinstance(stated, tuple) else stated
    return stated if stated in (12, 16) else 16


def _stretch(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0)  # infinite values become the largest float
        largest = float(values.max(initial=0, where=values < np.finfo(values.dtype).max))
    else:
        largest = float(values.max(initial=0))
    if values.dtype.kind == "f" and largest <= 1:
        factor = 255.0
    elif largest <= 255:
        factor = 1.0
    else:
        factor = 1 / 256 if largest <= 65535 else 255 / largest
    scaled = values.clip(0, largest).astype(np.float32, copy=False)
    scaled *= factor
    if factor not in (1, 1 / 256):  # these drop the fraction, as Pillow does
        scaled += 0.5
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)
