"""Reads image files and converts the images that callers pass (paths, PIL images, arrays, tensors) to tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .errors import InputError, require

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})
_ORIENTATION = 0x0112  # EXIF tag
_TRANSPOSED = frozenset({5, 6, 7, 8})  # its values that swap height and width


class ImageError(InputError):
    """An image file that cannot be read. ``reason`` is the message without the file's name."""

    def __init__(self, path: str | os.PathLike[str], reason: str):
        super().__init__(f"images: cannot read {os.fspath(path)}: {reason}")
        self.path, self.reason = os.fspath(path), reason

    def __reduce__(self) -> Any:
        return type(self), (self.path, self.reason)  # worker processes of a data loader send it to their parent


def read(path: str | os.PathLike[str], oriented: bool = True) -> Tensor:
    """The image file as [3, H, W] uint8 RGB, a view of an array [H, W, 3].

    Grey, palette and 16-bit images become 8-bit RGB; an alpha channel is dropped. ``oriented`` applies the EXIF
    orientation. Raises :class:`ImageError` if the file is missing, is no image, or is damaged or truncated.
    """
    with _decoded(_opened(path), path) as image:
        return _from_pil(image, oriented)


def check(path: str | os.PathLike[str], whole: bool = True) -> tuple[tuple[int, int], bool]:
    """``((height, width), transposed)`` of the stored image; ``transposed``: the EXIF orientation swaps the two.

    ``whole`` decodes the file, at an eighth of its size where the format supports that. This finds truncated files at
    a third of the cost of :func:`read`. Without ``whole`` only the header is read. Raises :class:`ImageError`.
    """
    with _opened(path) as image:
        size = (image.height, image.width)
        transposed = _orientation(image) in _TRANSPOSED
        if whole:
            image.draft("RGB", (1, 1))
            _decoded(image, path)
    return size, transposed


def load_image(image: Any) -> Tensor:
    """Any image → [3, H, W] RGB: uint8 (0..255), or float (0..1) if floats were given.

    Accepts a tensor [3, H, W], a path, a PIL image, or a numpy array HxW, HxWx1, HxWx3 or HxWx4. Files and PIL images
    are converted as :func:`read` does. Raises :class:`pyrcnn.InputError`, for files :class:`ImageError`.
    """
    if isinstance(image, Tensor):
        return _checked(image)
    if isinstance(image, str | os.PathLike):
        return read(image)
    if isinstance(image, Image.Image):
        return _from_pil(image, oriented=True)
    if isinstance(image, np.ndarray):
        return _checked(_from_array(image))
    raise InputError(f"images must hold tensors, paths, PIL images or numpy arrays, got {type(image).__name__}")


def load_images(images: Iterable[Any]) -> list[Tensor]:
    """:func:`load_image` of each. Raises :class:`pyrcnn.InputError` if a single path or image is given."""
    single = isinstance(images, str | os.PathLike | Image.Image) or getattr(images, "ndim", 4) < 4
    require(not single, "images must be a list of images, got a single image: put it in a list")
    return [load_image(image) for image in images]


def files_in(folder: Path) -> list[Path]:
    """The image files in ``folder``, by their suffix, sorted by name."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]


def _opened(path: str | os.PathLike[str]) -> Image.Image:
    """The image with only its header read."""
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise ImageError(path, "the file is missing") from None
    except UnidentifiedImageError:
        raise ImageError(path, "the file is not an image") from None
    except Image.DecompressionBombError as error:
        raise ImageError(path, f"the image is too large ({error})") from None
    except (OSError, SyntaxError, ValueError) as error:
        refused = getattr(error, "strerror", None)  # by the system; otherwise by a decoder
        raise ImageError(
            path, f"the file {'cannot be opened' if refused else 'is damaged'} ({refused or error})"
        ) from None


def _decoded(image: Image.Image, path: str | os.PathLike[str]) -> Image.Image:
    """``image`` after decoding all of it, so that errors are raised here, with the file's name."""
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error ...
        image.close()
        raise ImageError(path, f"the file is damaged ({error})") from None
    return image


def _from_pil(image: Image.Image, oriented: bool) -> Tensor:
    if oriented and _orientation(image) != 1:  # exif_transpose copies the image in any case
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow's own conversion of 16-bit values would clip them at 255
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return torch.from_numpy(np.repeat(grey[..., None], 3, axis=-1)).permute(2, 0, 1)
    pixels = np.array(image.convert("RGB"))  # a copy: Pillow's own buffer is read-only
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data raise SyntaxError, struct.error and more; the image itself may be whole
        return 1


def _from_array(array: np.ndarray) -> Tensor:
    if array.ndim == 2:
        array = array[..., None]
    require(array.ndim == 3 and array.shape[2] in (1, 3, 4), f"images must be HxWx3 arrays, got {list(array.shape)}")
    array = np.broadcast_to(array, (*array.shape[:2], 3)) if array.shape[2] == 1 else array[..., :3]
    # torch warns about arrays that are not writable: "W" copies them
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).permute(2, 0, 1)


def _checked(image: Tensor) -> Tensor:
    require(image.ndim == 3 and image.shape[0] == 3, f"images must be [3, H, W] tensors, got {list(image.shape)}")
    require(image.shape[1] > 0 and image.shape[2] > 0, f"images must not be empty, got {list(image.shape)}")
    floating = image.is_floating_point()
    require(floating or image.dtype == torch.uint8, f"images must be uint8 or floating point, got {image.dtype}")
    return image
