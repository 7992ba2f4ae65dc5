"""Small images of mistakes, for a report."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..data import CocoDataset
from ..errors import needing
from ..images import ImageError, draw
from .analysis import Evaluation
from .matches import KINDS, Mistake

with needing("PIL", "drawing", "pillow"):
    from PIL import Image

FOUND, TRUE = (215, 48, 39), (26, 152, 80)  # colours: of the detection, of the object
MOST = 12  # of a kind
MOST_PER_IMAGE = 2  # of a kind, so that one bad image does not fill the page
MOST_BYTES = 6_000_000  # of all crops
_SIDE = 320  # pixels, the longer side of a crop
_MARGIN, _SMALLEST = 0.4, 48.0  # around the boxes, as a fraction of their sides; pixels


@dataclass(frozen=True)
class Shown:
    """A mistake as the page shows it."""

    mistake: Mistake
    title: str
    file: str
    picture: str | None  # a data URI; None without images or above the limit of bytes


def pick(evaluation: Evaluation) -> dict[str, tuple[int, list[Mistake]]]:
    """Return per kind: how many mistakes there are, and the worst of them, few of one image."""
    found = evaluation.mistakes()
    picked = {}
    for kind in KINDS:
        of_kind = [m for m in found if m.kind == kind]
        per_image: Counter[int] = Counter()
        few = []
        for mistake in of_kind:
            per_image[mistake.image] += 1
            if per_image[mistake.image] <= MOST_PER_IMAGE:
                few.append(mistake)
        picked[kind] = len(of_kind), few[:MOST]
    return picked


def show(evaluation: Evaluation, chosen: Sequence[Mistake], dataset: CocoDataset | None, files: Sequence[str],
         budget: int = MOST_BYTES) -> list[Shown]:  # fmt: skip
    """Return the mistakes with their crops, as many as ``budget`` bytes hold.

    Args:
        evaluation: the evaluation that ``chosen`` are from.
        chosen: what to show.
        dataset: the images; None for texts alone.
        files: the name of each image.
        budget: bytes of all crops together.
    """
    position = {} if dataset is None else {record.image_id: i for i, record in enumerate(dataset.records)}
    shown = []
    for mistake in chosen:
        index = position.get(evaluation.images[mistake.image].image_id)
        picture = None
        if dataset is not None and index is not None and budget > 0:
            try:
                picture = _crop(evaluation, mistake, dataset.image(index))
                budget -= len(picture)
            except ImageError:
                picture = None
        shown.append(Shown(mistake, _title(evaluation, mistake), files[mistake.image], picture))
    return shown


def _title(evaluation: Evaluation, mistake: Mistake) -> str:
    name = evaluation.names[mistake.label]
    if mistake.score is None:
        return f"{name} missed"
    title = f"{name} {mistake.score:.2f}"
    if mistake.kind == "wrong class" and mistake.true_label is not None:
        title += f", is {evaluation.names[mistake.true_label]}"
    return title + (f", IoU {mistake.iou:.2f}" if mistake.true_box is not None else "")


def _crop(evaluation: Evaluation, mistake: Mistake, image: Tensor) -> str:
    """Return the surroundings of a mistake as a data URI, with its box and those of the image's objects."""
    matches = evaluation.images[mistake.image]
    boxes = [mistake.box] if mistake.true_box is None else [mistake.box, mistake.true_box]
    low = np.min([b[:2] for b in boxes], axis=0)
    high = np.max([b[:2] + b[2:] for b in boxes], axis=0)
    margin = np.maximum(_MARGIN * (high - low), (_SMALLEST - (high - low)) / 2)
    height, width = image.shape[-2:]
    left, top = np.floor(np.clip(low - margin, 0, (width - 1, height - 1))).astype(int).tolist()
    right, bottom = np.ceil(np.clip(high + margin, (left + 1, top + 1), (width, height))).astype(int).tolist()
    part = Image.fromarray(np.ascontiguousarray(image[:, top:bottom, left:right].permute(1, 2, 0).numpy()))
    scale = _SIDE / max(part.size)
    size = max(1, round(part.width * scale)), max(1, round(part.height * scale))
    part = part.resize(size, Image.Resampling.BICUBIC)

    def mark(box: np.ndarray, colour: tuple[int, int, int]) -> draw.Mark:
        x, y, w, h = box.tolist()
        corners = ((x - left) * scale, (y - top) * scale, (x + w - left) * scale, (y + h - top) * scale)
        return draw.Mark(corners, "", colour)

    marks = [mark(box, TRUE) for box in matches.true_boxes[~matches.crowd]]
    if mistake.score is not None:
        marks.append(mark(mistake.box, FOUND))
    file = io.BytesIO()
    draw.marked(part, marks, width=2).save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
