"""Decodes image files and PIL images, by the rules in :mod:`pyrcnn.images`."""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import require
from .exif import TRANSPOSED, UPRIGHT, orientation
from .files import errors_of, opened, opened_bytes
from .grey import is_deep, to_8_bits
from .header import suffices
from .jpeg import plain_size


def read(path: str | os.PathLike[str], oriented: bool = True) -> Tensor:
    """Return the image file as [3, H, W] uint8 RGB, a view of an array [H, W, 3].

    Args:
        path: the file.
        oriented: apply the EXIF orientation.

    Raises:
        ImageError: if the file is missing, is no image, is too large, or is damaged or truncated.

    Example:
        >>> from pyrcnn.checkpoints import bundled
        >>> read(bundled.ASSETS / "BloodImage_00021.jpg").shape
        torch.Size([3, 480, 640])
    """
    with opened(path) as (image, _):
        loaded, turn = _loaded(image)
        return _tensor(loaded, turn if oriented else 1)


def decode(content: bytes) -> Tensor:
    """Return the content of an image file as :func:`read` does. Raises :class:`~pyrcnn.images.ImageError`."""
    with opened_bytes(content, "bytes") as image:
        return _tensor(*_loaded(image))


def check(path: str | os.PathLike[str], whole: bool = True) -> tuple[tuple[int, int], bool]:
    """Return ``((height, width), transposed)`` of the stored image; ``transposed``: its orientation swaps the two.

    Only the header is read. A file that looks truncated, or whose header does not say enough, is also decoded, a JPEG
    file at an eighth of its size.

    Args:
        path: the file.
        whole: look for truncation.

    Raises:
        ImageError: if the file is missing, is no image, is too large, or is damaged or truncated.

    Example:
        >>> from pyrcnn.checkpoints import bundled
        >>> check(bundled.ASSETS / "BloodImage_00021.jpg")
        ((480, 640), False)
    """
    plain = plain_size(path)
    if plain is not None:
        return plain, False
    with opened(path) as (image, file):
        size = _stored_size(image)
        turn = orientation(image)
        if not suffices(image, file, whole):
            drafted = image.draft("RGB", (1, 1))
            loaded, turn = _loaded(image)
            size = size if drafted else loaded.size
        return size[::-1], turn in TRANSPOSED


def _stored_size(image: Image.Image) -> tuple[int, int]:
    tags = getattr(image, "tag_v2", None)  # TIFF: Pillow's own size may be that of the upright image
    return image.size if tags is None else (tags[256], tags[257])


def _loaded(image: Image.Image) -> tuple[Image.Image, int]:
    """Return the decoded image as stored, and its orientation."""
    turn = orientation(image)
    if hasattr(image, "tag_v2"):  # TIFF: Pillow would decode all EXIF entries and turn the image
        image.getexif = Image.Exif  # type: ignore[method-assign]
        image.load()
        image._size = image.im.size  # Pillow has set it to that of the upright image
        return image, turn
    image.load()
    return image, orientation(image)  # PNG: the metadata may stand behind the pixels


def from_pil(image: Image.Image) -> Tensor:
    """Return a PIL image as :func:`read` does. Raises :class:`~pyrcnn.images.ImageError`."""
    require(image.width > 0 and image.height > 0, f"images must not be empty, got a PIL image of {image.size}")
    with errors_of(getattr(image, "filename", "") or "a PIL image"):
        image.load()
        try:
            turn = image.getexif().get(0x0112, 1)  # the caller may have set it
        except Exception:
            turn = orientation(image)
        return _tensor(image, turn if turn in UPRIGHT else 1)


def _tensor(image: Image.Image, turn: int) -> Tensor:
    """Return the pixels of a decoded image as uint8 RGB, turned as its orientation ``turn`` says."""
    if is_deep(image):
        image = to_8_bits(image)
    if turn in UPRIGHT:
        image = image.transpose(UPRIGHT[turn])
    if image.mode == "L":
        return torch.from_numpy(np.repeat(np.asarray(image)[..., None], 3, axis=2)).permute(2, 0, 1)
    if image.mode != "RGB":
        if "transparency" in image.info:  # Pillow would try to keep it, and may fail
            image = image.copy()
            del image.info["transparency"]
        image = image.convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # a copy: Pillow's own buffer is read-only
