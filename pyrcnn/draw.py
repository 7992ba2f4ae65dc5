"""Draws detections onto their image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .structures import Detections
from .texts import printable

_DARK, _LIGHT = (0, 0, 0), (255, 255, 255)


def colour(label: int) -> tuple[int, int, int]:
    """A colour per class. Hues in steps of the golden ratio differ for any number of classes."""
    r, g, b = colorsys.hsv_to_rgb((0.02 + label * 0.618034) % 1.0, 0.85, 0.95)
    return round(r * 255), round(g * 255), round(b * 255)


def annotated(image: Tensor, detections: Detections, classes: Sequence[str]) -> Image.Image:
    """A copy of ``image`` [3, H, W] uint8 RGB with boxes, class names, scores and keypoints."""
    copy = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))
    brush = ImageDraw.Draw(copy)
    unit = max(1, round(min(copy.size) / 320))  # line width, in proportion to the image
    font = ImageFont.load_default(size=max(10, 6 * unit + 4))
    found = detections.numpy()
    for i in reversed(range(len(detections))):  # the highest score on top
        box, label = found["boxes"][i].tolist(), int(found["labels"][i])
        brush.rectangle(box, outline=colour(label), width=unit)
        for x, y, score in found["keypoints"][i].tolist() if "keypoints" in found else ():
            if score > 0:
                brush.ellipse((x - 2 * unit, y - 2 * unit, x + 2 * unit, y + 2 * unit), fill=colour(label))
        _caption(brush, box, f"{printable(classes[label])} {found['scores'][i]:.2f}", colour(label), font)
    return copy


def _caption(brush: ImageDraw.ImageDraw, box: list[float], text: str, fill: tuple[int, int, int], font: object) -> None:
    left, _, right, bottom = brush.textbbox((0, 0), text, font=font)  # type: ignore[arg-type]
    x = max(0.0, box[0])
    y = max(0.0, box[1] - bottom - 2)  # above the box, inside the image
    brush.rectangle((x, y, x + right - left + 4, y + bottom + 2), fill=fill)
    ink = _DARK if sum(fill) > 380 else _LIGHT
    brush.text((x + 2, y), text, fill=ink, font=font)  # type: ignore[arg-type]
