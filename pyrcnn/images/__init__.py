"""Reads image files and converts the images that callers pass (paths, PIL images, arrays, tensors) to tensors.

Every file becomes what a current Pillow makes of it, upright and in RGB, or raises :class:`ImageError`, by these rules:

- The orientation in the metadata is applied; nothing else in them matters, and what is unreadable in them is ignored.
- Alpha channels are dropped. Grey images of more than 8 bits are scaled, see :func:`pyrcnn.images.grey.to_8_bits`.
- Of a file with several images, the first is read; of an icon, the largest.
- An image of more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` (89 million) is refused by its header. The environment
  variable ``PYRCNN_MAX_PIXELS`` sets that number when pyrcnn is imported. A file may have 8 bytes per pixel of it.
  Metadata are limited as Pillow limits them: a PNG file may hold 1 MiB in a compressed text or colour profile, and
  64 MiB of text in all.
- Only regular files are opened, no pipes, sockets or devices. PostScript is refused: Pillow starts a program to read
  it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError, require
from .exif import TRANSPOSED, UPRIGHT, orientation
from .files import ImageError, errors_of, files_in, opened, opened_bytes, suffixes
from .grey import is_deep, to_8_bits
from .header import suffices
from .jpeg import plain_size

__all__ = ["ImageError", "check", "files_in", "load_image", "load_images", "read", "suffixes"]


def read(path: str | os.PathLike[str], oriented: bool = True) -> Tensor:
    """Return the image file as [3, H, W] uint8 RGB, a view of an array [H, W, 3].

    ``oriented`` applies the EXIF orientation. Raises :class:`ImageError` if the file is missing, is no image, is too
    large, or is damaged or truncated.
    """
    with opened(path) as (image, _):
        loaded, turn = _loaded(image)
        return _tensor(loaded, turn if oriented else 1)


def check(path: str | os.PathLike[str], whole: bool = True) -> tuple[tuple[int, int], bool]:
    """Return ``((height, width), transposed)`` of the stored image; ``transposed``: its orientation swaps the two.

    Only the header is read. A file that looks truncated, or whose header does not say enough, is also decoded, a JPEG
    file at an eighth of its size; without ``whole``, truncation is not looked for. Raises :class:`ImageError`.
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


def load_image(image: Any) -> Tensor:
    """Return any image as [3, H, W] RGB: uint8 (0..255), or float (0..1) if floats were given.

    Accepts a tensor [3, H, W], a path, the ``bytes`` of an image file, a PIL image, or a numpy array HxW, HxWx1, HxWx3
    or HxWx4. Files and PIL images are converted as :func:`read` does. Raises :class:`pyrcnn.InputError`, for files
    :class:`ImageError`.
    """
    if isinstance(image, Tensor):
        return _checked(image)
    if isinstance(image, str | os.PathLike):
        return read(image)
    if isinstance(image, bytes):
        with opened_bytes(image, "bytes") as opened_image:
            return _tensor(*_loaded(opened_image))
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, np.ndarray):
        return _checked(_from_array(image))
    raise InputError(f"images must hold tensors, paths, bytes, PIL images or numpy arrays, got {type(image).__name__}")


def load_images(images: Iterable[Any]) -> list[Tensor]:
    """Return :func:`load_image` of each. Raises :class:`pyrcnn.InputError` if a single path or image is given."""
    single = isinstance(images, str | bytes | os.PathLike | Image.Image) or getattr(images, "ndim", 4) < 4
    require(not single, "images must be a list of images, got a single image: put it in a list")
    return [load_image(image) for image in images]


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


def _from_pil(image: Image.Image) -> Tensor:
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


def _from_array(array: np.ndarray) -> Tensor:
    if array.ndim == 2:
        array = array[..., None]
    require(array.ndim == 3 and array.shape[2] in (1, 3, 4), f"images must be HxWx3 arrays, got {list(array.shape)}")
    array = np.broadcast_to(array, (*array.shape[:2], 3)) if array.shape[2] == 1 else array[..., :3]
    try:  # torch warns about arrays that are not writable: "W" copies them
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).permute(2, 0, 1)
    except (TypeError, ValueError):
        raise InputError(f"images must be uint8 or floating point, got an array of {array.dtype}") from None


def _checked(image: Tensor) -> Tensor:
    require(image.ndim == 3 and image.shape[0] == 3, f"images must be [3, H, W] tensors, got {list(image.shape)}")
    require(image.shape[1] > 0 and image.shape[2] > 0, f"images must not be empty, got {list(image.shape)}")
    floating = image.is_floating_point()
    require(floating or image.dtype == torch.uint8, f"images must be uint8 or floating point, got {image.dtype}")
    return image
