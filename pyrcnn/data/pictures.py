"""Reading picture files with Pillow, and telling a whole file from a broken one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})
_ORIENTATION = 0x0112  # EXIF tag
_TRANSPOSED = frozenset({5, 6, 7, 8})  # its values that swap height and width


class PictureError(ValueError):
    """A picture file that cannot be read; the message says why, without the file's name."""


def read(path: str | Path, oriented: bool = True) -> Tensor:
    """The picture as [3, H, W] uint8 RGB; grey and palette pictures become RGB, transparency is dropped.

    ``oriented`` turns the picture as its EXIF orientation says. Raises :class:`PictureError` when the file is missing,
    is no picture or is truncated.
    """
    with _opened(path) as image:
        turned = ImageOps.exif_transpose(image) if oriented else image
        pixels = np.array(turned.convert("RGB"))  # a copy: Pillow's own buffer is read-only
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def check(path: str | Path, whole: bool = True) -> tuple[tuple[int, int], bool]:
    """``((height, width), transposed)`` as stored in the file; ``transposed``: EXIF orientation swaps the two.

    ``whole`` decodes all of the file, at an eighth of its size where the format allows, so that a truncated file is
    found at a third of a full decode's cost; otherwise only the header is read. Raises :class:`PictureError`.
    """
    with _opened(path, decode=False) as image:
        size = (image.height, image.width)
        transposed = image.getexif().get(_ORIENTATION, 1) in _TRANSPOSED
        if whole:
            image.draft("RGB", (1, 1))
            _decode(image)
    return size, transposed


def _opened(path: str | Path, decode: bool = True) -> Image.Image:
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise PictureError("the file is missing") from None
    except UnidentifiedImageError:
        raise PictureError("the file is not a picture") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise PictureError(f"the file cannot be opened ({error})") from None
    if decode:
        _decode(image)
    return image


def _decode(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error ...
        image.close()
        raise PictureError(f"the file is damaged ({error})") from None
