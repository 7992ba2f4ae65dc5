"""Runs a detector over many images: optimized, images read ahead, images of one size in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

from . import deploy
from .errors import InputError, require
from .models.detector import Detector
from .structures import Detections

# deploy.optimize takes 50 to 160 ms once (bundled models, two cores) and saves 40 to 70 ms per image.
OPTIMIZE_FROM = 4  # images
# Images of one size per call. A batch of 4 takes 8 to 10 % less time per image than single images (bundled models, two
# cores); more would only delay results.
BATCH = 4
_READERS, _AHEAD = 2, 8  # threads that decode images; images decoded ahead of the model
_BYTES = 2**28  # of images decoded ahead, and of the images of a batch; about 20 of 4 megapixels

T = TypeVar("T")
R = TypeVar("R")


def faster(model: nn.Module, images: int, *, plain: bool = False, engine: str | None = None) -> nn.Module:
    """``model``, or its optimized copy if that pays off for a number of ``images``.

    Results are equal up to float32 rounding. ``plain`` never optimizes; ``engine`` names who runs the networks, as in
    :func:`pyrcnn.deploy.optimize`, and always optimizes. Models that are no detectors of this package stay as they are.
    """
    require(not (plain and engine), f"engine must be left out with plain, got {engine}")
    if engine is not None:
        return deploy.optimize(model, engine=engine)  # type: ignore[call-arg]
    worth = not plain and images >= OPTIMIZE_FROM and isinstance(model, Detector)
    return deploy.optimize(model) if worth else model


def detect(
    model: nn.Module, items: Iterable[T], read: Callable[[T], Tensor], batch: int = BATCH
) -> Iterator[tuple[T, Tensor, Detections | InputError]]:
    """``(item, image, detections)`` for each of ``items`` in their order, as soon as they are known.

    ``read(item)`` gives the image [3, H, W] and runs in threads, ahead of the model. If it raises
    :class:`~pyrcnn.InputError`, the error stands in place of the detections and the image is empty. ``batch`` is the
    largest number of consecutive images of one size per call.
    """
    require(batch > 0, f"batch_size must be positive, got {batch}")
    waiting: list[tuple[T, Tensor]] = []
    for item, future in read_ahead(items, read):
        image, error = _outcome(future)
        if waiting and (error is not None or image.shape != waiting[0][1].shape):
            yield from _run(model, waiting)
            waiting = []
        if error is not None:
            yield item, image, error
            continue
        waiting.append((item, image))
        if len(waiting) == batch or image.nbytes * len(waiting) > _BYTES:
            yield from _run(model, waiting)
            waiting = []
    if waiting:
        yield from _run(model, waiting)


def read_ahead(items: Iterable[T], read: Callable[[T], R]) -> Iterator[tuple[T, Future[R]]]:
    """``(item, future of read(item))`` in the order of ``items``; a few are read before they are asked for."""
    pool = ThreadPoolExecutor(_READERS)
    queue: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            queue.append((item, pool.submit(read, item)))
            while len(queue) > _AHEAD or _decoded_bytes(queue) > _BYTES:
                yield queue.popleft()
        while queue:
            yield queue.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def _decoded_bytes(queue: Iterable[tuple[T, Future[R]]]) -> int:
    done = (future for _, future in queue if future.done() and future.exception() is None)
    return sum(getattr(future.result(), "nbytes", 0) for future in done)


def _outcome(future: Future[Tensor]) -> tuple[Tensor, InputError | None]:
    try:
        return future.result(), None
    except InputError as error:
        return torch.empty(0), error


def _run(model: nn.Module, images: list[tuple[T, Tensor]]) -> Iterator[tuple[T, Tensor, Detections]]:
    with torch.inference_mode():
        found = model([image for _, image in images])
    for (item, image), detections in zip(images, found, strict=True):
        yield item, image, detections
