"""Opens image files: regular files only, of a limited size, without Pillow's warnings; every error names the file."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..errors import InputError, needing, require
from .quiet import quiet

with needing("PIL", "reading images", "pillow"):
    from PIL import Image, UnidentifiedImageError

# Formats whose pixels Pillow cannot read by itself. For PostScript it starts another program.
_NO_PIXELS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
_MAX_PIXELS = "PYRCNN_MAX_PIXELS"
_BYTES_PER_PIXEL = 8  # four channels of 16 bits, uncompressed
_SMALL = 2**26  # bytes
_REMEDY = f"to read it, set the environment variable {_MAX_PIXELS} to a larger number"
if os.environ.get(_MAX_PIXELS):
    require(
        os.environ[_MAX_PIXELS].isdecimal(), f"{_MAX_PIXELS} must be a whole number, got {os.environ[_MAX_PIXELS]!r}"
    )
    Image.MAX_IMAGE_PIXELS = int(os.environ[_MAX_PIXELS])


class ImageError(InputError):
    """An image file that cannot be read; it is a :class:`pyrcnn.InputError`.

    Args:
        path: the file.
        reason: the message without the file's name.

    Example:
        >>> print(ImageError("a.jpg", "no such file"))
        images: cannot read a.jpg: no such file
    """

    def __init__(self, path: str | os.PathLike[str], reason: str):
        super().__init__(f"images: cannot read {os.fspath(path)}: {reason}")
        self.path, self.reason = os.fspath(path), reason

    def __reduce__(self) -> Any:
        return type(self), (self.path, self.reason)  # worker processes of a data loader send it to their parent


def suffixes() -> frozenset[str]:
    """Return the suffixes of the image files that can be read, in small letters, with the dot.

    Example:
        >>> {".jpg", ".png"} <= suffixes()
        True
    """
    known = Image.registered_extensions()
    readable = {*Image.OPEN, "MPO"} - _NO_PIXELS  # Pillow opens MPO as JPEG
    return frozenset(suffix for suffix, name in known.items() if name in readable)


def files_in(folder: Path) -> list[Path]:
    """Return the image files in ``folder``, by their suffix, sorted by name.

    Args:
        folder: an existing folder; its subfolders are not searched.

    Example:
        >>> from pyrcnn.checkpoints import bundled
        >>> [path.name for path in files_in(bundled.ASSETS)]
        ['BloodImage_00021.jpg', 'BloodImage_00068.jpg']
    """
    known = suffixes()
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in known and not path.is_dir()]


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[Image.Image, IO[bytes]]]:
    """Open an image file; give the image with only its header read, and the file it comes from.

    Inside, Pillow does not warn, and every exception becomes an :class:`ImageError`.
    """
    with open_file(path) as file, errors_of(path):
        image = _open(file)
        with image:
            check_size(path, image)
            yield image, file


@contextlib.contextmanager
def opened_bytes(content: bytes, name: str) -> Iterator[Image.Image]:
    """Open the content of an image file, as :func:`opened` does; ``name`` stands in errors."""
    with errors_of(name), _open(io.BytesIO(content)) as image:
        check_size(name, image)
        yield image


@contextlib.contextmanager
def errors_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn every exception inside into an :class:`ImageError` about ``path``, and silence Pillow's warnings."""
    try:
        with quiet:
            yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(path, "the file is not an image that can be read") from None
    except Image.DecompressionBombError:
        limit = Image.MAX_IMAGE_PIXELS
        raise ImageError(path, f"the image is too large: the limit is {limit} pixels; {_REMEDY}") from None
    except MemoryError:
        raise ImageError(path, "the image needs more memory than there is") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error ...
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(path, f"the file is damaged ({text})") from None


def check_size(path: str | os.PathLike[str], image: Any) -> None:
    """Raise :class:`ImageError` if the image, or the frame of a video, has no pixels or too many."""
    size, count, limit = f"{image.width}x{image.height}", image.width * image.height, Image.MAX_IMAGE_PIXELS
    if limit is not None and count > limit:
        raise ImageError(path, f"the image is too large: it has {size} pixels, the limit is {limit}; {_REMEDY}")
    if count <= 0:
        raise ImageError(path, f"the image has no pixels: its size is {size}")


def open_file(path: str | os.PathLike[str], limited: bool = True) -> IO[bytes]:
    """Return the open file. Pipes, sockets and devices are refused before they are opened: they could wait for ever.

    ``limited``: so are files that are too large for an image. Raises :class:`ImageError`.
    """
    try:
        _check_kind(path, os.stat(path).st_mode)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        file = open(os.open(path, flags), "rb")  # noqa: SIM115  (the caller closes it)
    except FileNotFoundError:
        raise ImageError(path, "the file is missing") from None
    except OSError as error:
        raise ImageError(path, f"the file cannot be opened ({error.strerror or error})") from None
    except ValueError as error:
        raise ImageError(path, f"no file can have this name ({error})") from None
    try:
        state = os.fstat(file.fileno())
        _check_kind(path, state.st_mode)  # it may be another file by now
        limit = Image.MAX_IMAGE_PIXELS if limited else None
        if limit is not None and state.st_size > _BYTES_PER_PIXEL * limit + _SMALL:  # Pillow may read it all at once
            large = f"{state.st_size} bytes are more than {_BYTES_PER_PIXEL} for each of {limit} pixels"
            raise ImageError(path, f"the file is too large: {large}; {_REMEDY}")
    except BaseException:
        file.close()
        raise
    return file


def _check_kind(path: str | os.PathLike[str], mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
        raise ImageError(path, f"it is a {kinds.get(stat.S_IFMT(mode), 'device')}, not a file")


def _open(file: IO[bytes]) -> Image.Image:
    Image.init()
    formats = [name for name in Image.ID if name not in _NO_PIXELS]
    try:
        return Image.open(file, formats=formats)
    except Image.DecompressionBombError:
        raise
    except Exception:  # Pillow may have failed on the metadata alone
        file.seek(0)
        bare = _without_metadata(file)
        if bare is None:
            raise
        content, info = bare
        image = Image.open(io.BytesIO(content), formats=formats)
        image.info.update(info)
        return image


def _without_metadata(file: IO[bytes]) -> tuple[bytes, dict[str, bytes]] | None:
    """Return the content of a JPEG or AVIF file without its metadata, and those that may hold an orientation.

    None for other formats: Pillow does not look into their metadata when it opens them.
    """
    large = file.seek(0, os.SEEK_END) > _SMALL
    file.seek(0)
    if large:
        return None
    head = file.read(12)
    if head.startswith(b"\xff\xd8"):
        return _bare_jpeg(head + file.read())
    if head[4:] in (b"ftypavif", b"ftypavis", b"ftypmif1"):
        # Decoders ignore an item of an unknown type. The orientation is a property of the image, no part of this item.
        return re.sub(rb"(infe\x02.{7})Exif", rb"\1none", head + file.read(), flags=re.DOTALL), {}
    return None


def _bare_jpeg(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Remove the application segments before the pixels, except JFIF's and Adobe's, which concern the colours."""
    kept, at = [content[:2]], 2
    info: dict[str, bytes] = {}
    while content[at : at + 1] == b"\xff" and len(content) >= at + 4 and content[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        segment = content[at:end]
        if not 0xE1 <= segment[1] <= 0xEF or segment[1] == 0xEE:
            kept.append(segment)
        elif segment[4:10] == b"Exif\0\0":
            info["exif"] = info.get("exif", b"Exif\0\0") + segment[10:]
        elif segment[4:33] == b"http://ns.adobe.com/xap/1.0/\0":
            info["xmp"] = segment[33:]
        at = end
    return b"".join([*kept, content[at:]]), info
