"""Converts the images that callers pass to tensors. Tensors and arrays need no other package than torch and NumPy."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, needing, require


def load_image(image: Any) -> Tensor:
    """Return any image as [3, H, W] RGB: uint8 (0..255), or float (0..1) if floats were given.

    Args:
        image: a tensor [3, H, W], a path, the ``bytes`` of an image file, a PIL image, or a numpy array HxW, HxWx1,
            HxWx3 or HxWx4. Files and PIL images are converted as :func:`read` does.

    Raises:
        pyrcnn.InputError: for anything else; for files :class:`ImageError`.

    Example:
        >>> import numpy as np
        >>> load_image(np.zeros((48, 64), np.uint8)).shape
        torch.Size([3, 48, 64])
    """
    if isinstance(image, Tensor):
        return _checked(image)
    if isinstance(image, str | os.PathLike):
        return _reading().read(image)
    if isinstance(image, bytes):
        return _reading().decode(image)
    if _is_pil(image):
        return _reading().from_pil(image)
    if isinstance(image, np.ndarray):
        return _checked(_from_array(image))
    raise InputError(f"images must hold tensors, paths, bytes, PIL images or numpy arrays, got {type(image).__name__}")


def load_images(images: Iterable[Any]) -> list[Tensor]:
    """Return :func:`load_image` of each.

    Args:
        images: what :func:`load_image` takes, of any sizes.

    Raises:
        pyrcnn.InputError: as :func:`load_image`, and if a single path or image is given.

    Example:
        >>> [tuple(image.shape) for image in load_images([torch.zeros(3, 4, 8), torch.zeros(3, 2, 2)])]
        [(3, 4, 8), (3, 2, 2)]
    """
    single = isinstance(images, str | bytes | os.PathLike) or _is_pil(images) or getattr(images, "ndim", 4) < 4
    require(not single, "images must be a list of images, got a single image: put it in a list")
    return [load_image(image) for image in images]


def _reading() -> Any:
    with needing("PIL", "reading images", "pillow"):
        from . import reading
    return reading


def _is_pil(image: Any) -> bool:
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(image, pil.Image)


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
