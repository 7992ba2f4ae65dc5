"""Reads the frames of video files and writes annotated videos, with PyAV (``pip install av``).

A video is identified by its content, and only containers that name no other file or address are opened: no playlists.
Frames are limited in pixels as images are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import needing, require
from .files import ImageError, check_size, open_file

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".asf", ".flv", ".3gp", ".ogv", ".mts",
     ".m2ts"}
)  # fmt: skip
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg"
_TICKS = 90_000  # per second, in which an annotated video counts time
_ENCODERS = {"libx264": {"crf": "23", "preset": "veryfast"}, "mpeg4": {"qscale": "4"}}  # the first that PyAV has


@dataclass(frozen=True)
class Frame:
    """A frame of the video ``path``: its ``number``, counted from 0, and its ``time`` in seconds since the first one.

    :meth:`read` converts it to RGB, which another thread may do.
    """

    path: Path
    number: int
    time: float
    decoded: Any = field(repr=False)

    def read(self) -> Tensor:
        """Return the frame as [3, H, W] uint8 RGB, upright."""
        pixels = self.decoded.to_ndarray(format="rgb24")
        turns = round((getattr(self.decoded, "rotation", 0) or 0) / 90) % 4
        return torch.from_numpy(np.ascontiguousarray(np.rot90(pixels, turns))).permute(2, 0, 1)


def frames(path: str | os.PathLike[str], every: int = 1) -> Iterator[Frame]:
    """Yield the frames of a video file in the order of their display, one at a time, so that memory does not grow.

    Args:
        path: a video file, such as an MP4, MOV, AVI, MKV or WebM.
        every: yield frames 0, ``every``, 2 * ``every`` …; all are decoded.

    Raises:
        pyrcnn.InputError: if PyAV is missing or ``every`` is not positive.
        pyrcnn.images.ImageError: if the file is missing, is no video or is damaged; after the frames before the damage.

    Example:
        >>> [(frame.number, frame.read().shape) for frame in frames("clip.mp4", every=25)]  # doctest: +SKIP
        [(0, torch.Size([3, 240, 320])), (25, torch.Size([3, 240, 320]))]
    """
    require(isinstance(every, int) and every > 0, f"every must be a positive integer, got {every!r}")
    with open_file(path, limited=False) as file:
        container, stream = _opened(path, file)
        with container:
            start = None
            decoded = _errors_of(path, container.decode(stream))
            for number, picture in enumerate(decoded):
                check_size(path, picture)
                seconds = picture.time if picture.time is not None else float(number / (stream.average_rate or 25))
                start = seconds if start is None else start
                if number % every == 0:
                    yield Frame(Path(path), number, seconds - start, picture)


def count(path: str | os.PathLike[str]) -> int:
    """Return the number of frames as the file announces it, which may be wrong; 0 if it does not.

    Raises :class:`ImageError` if the file is missing or no video, and :class:`pyrcnn.InputError` if PyAV is missing.
    """
    with open_file(path, limited=False) as file:
        container, stream = _opened(path, file)
        with container:
            seconds = container.duration / 1e6 if container.duration else 0.0
            return int(stream.frames or seconds * float(stream.average_rate or 0))


def check_available() -> None:
    """Raise :class:`pyrcnn.InputError` if PyAV is missing."""
    with needing("av", "reading videos"):
        import av  # noqa: F401


def _opened(path: str | os.PathLike[str], file: IO[bytes]) -> tuple[Any, Any]:
    """Return the container and its first video stream."""
    check_available()
    import av

    av.logging.set_level(av.logging.PANIC)  # what is wrong becomes an exception
    try:
        container = av.open(file, container_options={"format_whitelist": _CONTAINERS})
    except (av.FFmpegError, ValueError) as error:
        raise ImageError(path, f"the file is not a video that can be read ({_reason(error)})") from None
    if not container.streams.video:
        container.close()
        raise ImageError(path, "the file holds no video")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return container, stream


def _errors_of(path: str | os.PathLike[str], decoded: Iterator[Any]) -> Iterator[Any]:
    """Yield what ``decoded`` does; its errors become an :class:`ImageError` about ``path``."""
    import av

    seen = False
    while True:
        try:
            picture = next(decoded)
        except StopIteration:
            if not seen:
                raise ImageError(path, "the video has no frame") from None
            return
        except (av.FFmpegError, ValueError, MemoryError) as error:
            raise ImageError(path, f"the video is damaged ({_reason(error)})") from None
        seen = True
        yield picture


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).partition("\n")[0]


class VideoWriter:
    """Writes images of one size as an MP4 file (H.264 where PyAV has it) without sound; ``with`` finishes the file.

    Args:
        path: the file, replaced if it exists.
        size: height and width of the images. An odd side is one pixel longer in the video.
    """

    def __init__(self, path: str | os.PathLike[str], size: tuple[int, int]):
        with needing("av", "writing videos"):
            import av
        self._av, self._given, self._last = av, size, -1
        self._size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        name = next(name for name in _ENCODERS if name in av.codecs_available)
        self._container = av.open(os.fspath(path), "w", format="mp4")
        self._stream: Any = self._container.add_stream(name, rate=_TICKS, options=_ENCODERS[name])
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, _TICKS)

    def write(self, image: Image.Image, time: float) -> None:
        """Append an RGB image that is shown from ``time`` on, in seconds."""
        if image.size != self._given[::-1]:  # the size of the video's frames has changed
            image = image.resize(self._given[::-1])
        pixels, (height, width) = np.asarray(image), self._size
        pixels = np.pad(pixels, ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)), "edge")
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._last = max(self._last + 1, round(time * _TICKS))  # times must grow
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()
