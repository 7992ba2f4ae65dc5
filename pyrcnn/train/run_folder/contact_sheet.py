"""A picture of what a training run learns from: its first batches, with the targets drawn."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...atomic import replacing
from ...data import CocoDataset, aspect_groups, batches
from ...data.wrappers import labels_of
from ...errors import needing
from ...images import draw
from ...structures import Targets
from ..config import TrainConfig
from ..labels import with_flip_pairs

with needing("PIL", "drawing", "pillow"):
    from PIL import Image

MOST = 24  # images
_COLUMNS, _CELL = 4, 320  # images in a row; pixels of the side of one
_CROWD = (150, 150, 150)


def write(train_data: Any, config: TrainConfig, file: Path) -> None:
    """Write the images of the first batches as JPEG, augmented as in training, with boxes, classes and keypoints.

    Crowds are grey, and so are the proposals of alternating training. The process's random generators stay as they are.
    """
    _, classes = labels_of(train_data)
    with _generators_kept():
        some = list(islice(_first(train_data, config), MOST))
    cells = [_cell(image, targets, classes) for image, targets in some]
    rows = -(-len(cells) // _COLUMNS)
    sheet = Image.new("RGB", (min(_COLUMNS, len(cells)) * _CELL, rows * _CELL), (40, 40, 40))
    for number, cell in enumerate(cells):
        row, column = divmod(number, _COLUMNS)
        sheet.paste(cell, (column * _CELL + (_CELL - cell.width) // 2, row * _CELL + (_CELL - cell.height) // 2))
    with replacing(file, argument="out", flush=False) as temporary:
        sheet.save(temporary, "JPEG", quality=85)


def _first(train_data: Any, config: TrainConfig) -> Iterator[tuple[Tensor, Targets]]:
    groups = aspect_groups(train_data) if config.group_by_aspect and isinstance(train_data, CocoDataset) else None
    augment = with_flip_pairs(config.augment, train_data)
    found, _ = batches(train_data, config.batch_size, augment, seed=config.seed, groups=groups)
    for images, targets in found:
        yield from zip(images, targets, strict=True)


def _cell(image: Tensor, targets: Targets, classes: Sequence[str]) -> Image.Image:
    height, width = image.shape[-2:]
    scale = (_CELL - 4) / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = image if image.dtype == torch.uint8 else (image.clamp(0, 1) * 255).to(torch.uint8)
    small = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())).resize(size)
    crowd = targets.crowd.tolist() if targets.crowd is not None else [False] * len(targets)
    keypoints = targets.keypoints.clone() if targets.keypoints is not None else torch.zeros(len(targets), 0, 3)
    keypoints[..., :2] *= scale
    marks = []
    for box, label, grey, points in zip((targets.boxes * scale).tolist(), targets.labels.tolist(), crowd,
                                        keypoints.tolist(), strict=True):  # fmt: skip
        name = classes[label] if 0 <= label < len(classes) else "" if label < 0 else str(label)
        marks.append(draw.Mark(box, name, _CROWD if grey else draw.colour(label), points))
    return draw.marked(small, marks)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Restore the random generators that loading draws from, so that the training draws what it would without."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(python)
    np.random.set_state(numpy)
