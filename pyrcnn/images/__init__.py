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

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import needing
from .given import load_image, load_images

if TYPE_CHECKING:
    from .files import ImageError, files_in, suffixes
    from .reading import check, read

__all__ = ["ImageError", "check", "files_in", "load_image", "load_images", "read", "suffixes"]

_HOMES = {  # imported when they are first used: tensors need no Pillow
    "ImageError": ".files", "files_in": ".files", "suffixes": ".files", "check": ".reading", "read": ".reading",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needing("PIL", "reading images", "pillow"):
        value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
    return value
