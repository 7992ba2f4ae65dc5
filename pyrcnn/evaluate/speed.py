"""How long a model takes per image, and where the time goes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from .. import environment, inference
from ..data import CocoDataset
from ..images import ImageError
from ..models import unwrap
from ..models.outputs import trim
from .prediction import evaluating

IMAGES = 20  # that are timed
_WARM_UP = 2  # calls that choose algorithms and fill caches


@dataclass(frozen=True)
class Speed:
    """Milliseconds per image: medians over images that were taken one at a time.

    Attributes:
        read: reading and decoding the file.
        preprocess: resizing and normalizing; None for models that do not tell.
        network: the network, and its output to boxes; with ``preprocess`` if that is None.
        total: from the file to boxes.
        images: how many were timed.
        optimized: whether the copy of ``deploy.optimize`` ran, as in :func:`~pyrcnn.evaluate.predict`.
        environment: versions and the machine, see :func:`pyrcnn.environment.describe`.
        device: where the model ran.
    """

    read: float
    preprocess: float | None
    network: float
    total: float
    images: int
    optimized: bool
    device: str
    environment: dict[str, Any]


def measure(model: nn.Module, dataset: CocoDataset, *, plain: bool = False,
            engine: str | None = None) -> Speed | None:  # fmt: skip
    """Return how long ``model`` takes for images of ``dataset``; None if none of the first ones can be read.

    ``plain`` and ``engine`` are as in :func:`~pyrcnn.evaluate.predict`, so that the same networks run.
    """
    model = unwrap(model)
    rows: list[tuple[float, float, float]] = []
    with evaluating(model):
        fast = inference.faster(model, len(dataset), plain=plain, engine=engine)
        indices = list(range(min(IMAGES, len(dataset))))
        for turn, i in enumerate([*indices[:1] * _WARM_UP, *indices]):
            try:
                row = _times(fast, dataset, i)
            except ImageError:
                continue
            if turn >= _WARM_UP:
                rows.append(row)
    if not rows:
        return None
    read, preprocess, network = (1e3 * median(column) for column in zip(*rows, strict=True))
    device = str(next((p.device for p in model.parameters()), torch.device("cpu")))
    return Speed(read, preprocess if _in_parts(fast) else None, network,
                 1e3 * median(sum(row) for row in rows), len(rows), fast is not model, device,
                 environment.describe(device))  # fmt: skip


def _in_parts(model: nn.Module) -> bool:
    """Whether the model can be called in parts, as detectors of this package and their optimized copies can."""
    return hasattr(model, "preprocess") and hasattr(model, "predict_padded")


def _times(model: Any, dataset: CocoDataset, index: int) -> tuple[float, float, float]:
    """Return seconds for reading, preprocessing (0 if unknown) and the rest."""
    began = _now()
    image = dataset.image(index)
    read = _now()
    if not _in_parts(model):
        model([image])
        return read - began, 0.0, _now() - read
    pixels, sizes, scales = model.preprocess([image])
    ready = _now()
    trim(model.predict_padded(pixels, sizes), sizes, scales)
    return read - began, ready - read, _now() - ready


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
