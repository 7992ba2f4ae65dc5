"""Draws detections and ground truth onto their image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..errors import needing
from ..structures import Detections
from ..texts import printable

with needing("PIL", "drawing", "pillow"):
    from PIL import Image, ImageDraw, ImageFont

_DARK, _LIGHT = (0, 0, 0), (255, 255, 255)


def colour(label: int) -> tuple[int, int, int]:
    """A colour per class. Hues in steps of the golden ratio differ for any number of classes."""
    r, g, b = colorsys.hsv_to_rgb((0.02 + label * 0.618034) % 1.0, 0.85, 0.95)
    return round(r * 255), round(g * 255), round(b * 255)


class Mark(NamedTuple):
    """One box to draw: x1 y1 x2 y2 in pixels, its text, its colour, and keypoints x, y, score (drawn above 0)."""

    box: Sequence[float]
    caption: str
    colour: tuple[int, int, int]
    keypoints: Sequence[Sequence[float]] = ()


def annotated(image: Tensor, detections: Detections, classes: Sequence[str]) -> Image.Image:
    """A copy of ``image`` [3, H, W] uint8 RGB with boxes, class names, scores and keypoints."""
    found = detections.numpy()
    keypoints = found["keypoints"].tolist() if "keypoints" in found else [()] * len(detections)
    marks = [
        Mark(box, f"{classes[label]} {score:.2f}", colour(label), points)
        for box, label, score, points in zip(
            found["boxes"].tolist(), found["labels"].tolist(), found["scores"], keypoints, strict=True
        )
    ]
    return marked(image, marks[::-1])  # the highest score on top


def marked(image: Tensor | Image.Image, marks: Sequence[Mark], width: int | None = None) -> Image.Image:
    """A copy of ``image`` [3, H, W] uint8 RGB with ``marks``, the last on top; an empty caption draws none.

    ``width`` is that of the lines in pixels; None for one in proportion to the image.
    """
    if isinstance(image, Tensor):
        image = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))
    copy = image.copy()
    brush = ImageDraw.Draw(copy)
    unit = width or max(1, round(min(copy.size) / 320))
    font = ImageFont.load_default(size=max(10, 6 * unit + 4))
    for mark in marks:
        x1, y1, x2, y2 = mark.box
        brush.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=mark.colour, width=unit)
        for x, y, score in mark.keypoints:
            if score > 0:
                brush.ellipse((x - 2 * unit, y - 2 * unit, x + 2 * unit, y + 2 * unit), fill=mark.colour)
        if mark.caption:
            _caption(brush, list(mark.box), printable(mark.caption), mark.colour, font)
    return copy


def _caption(brush: ImageDraw.ImageDraw, box: list[float], text: str, fill: tuple[int, int, int], font: object) -> None:
    left, _, right, bottom = brush.textbbox((0, 0), text, font=font)  # type: ignore[arg-type]
    x = max(0.0, box[0])
    y = max(0.0, box[1] - bottom - 2)  # above the box, inside the image
    brush.rectangle((x, y, x + right - left + 4, y + bottom + 2), fill=fill)
    ink = _DARK if sum(fill) > 380 else _LIGHT
    brush.text((x + 2, y), text, fill=ink, font=font)  # type: ignore[arg-type]
