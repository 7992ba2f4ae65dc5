"""Augmentation in float64 and plain loops. Images are [3][H][W] lists; boxes are lists of four numbers."""

from __future__ import annotations

import colorsys
import math

Image = list[list[list[float]]]


def window_of(image: Image, top: int, left: int, height: int, width: int, fill: float) -> Image:
    """The pixels of a window that may reach outside the image, where ``fill`` is."""
    h, w = len(image[0]), len(image[0][0])
    return [
        [
            [channel[y][x] if 0 <= y < h and 0 <= x < w else fill for x in range(left, left + width)]
            for y in range(top, top + height)
        ]
        for channel in image
    ]


def visible(box: list[float], top: int, left: int, height: int, width: int, least: float) -> list[float] | None:
    """The part of a box in a window, in the window's pixels; None if it is less than ``least`` of it or a pixel."""
    x1, y1, x2, y2 = box
    cut = [
        min(max(x1 - left, 0), width), min(max(y1 - top, 0), height),
        min(max(x2 - left, 0), width), min(max(y2 - top, 0), height),
    ]  # fmt: skip
    sides = cut[2] - cut[0], cut[3] - cut[1]
    if min(sides) < 1 or sides[0] * sides[1] < least * (x2 - x1) * (y2 - y1):
        return None
    return cut


def border(most: int, length: int) -> int:
    """CenterNet's border: ``most`` halved until it fits twice into ``length``."""
    i = 1
    while length - most // i < most // i:
        i *= 2
    return most // i


def recolour(image: Image, change) -> Image:
    """Apply ``change`` (r, g, b in 0..1 → r, g, b) to each pixel of an image 0..255, and round."""
    h, w = len(image[0]), len(image[0][0])
    result = [[[0.0] * w for _ in range(h)] for _ in range(3)]
    for y in range(h):
        for x in range(w):
            colour = change(*(image[c][y][x] / 255 for c in range(3)))
            for c in range(3):
                result[c][y][x] = round(255 * min(max(colour[c], 0.0), 1.0))
    return result


def means(image: Image) -> list[float]:
    """The mean of each channel, 0..1."""
    return [sum(map(sum, channel)) / len(channel) / len(channel[0]) / 255 for channel in image]


def turn_hue(r: float, g: float, b: float, shift: float) -> tuple[float, float, float]:
    """A colour 0..1 with its hue turned."""
    h, s, v = colorsys.rgb_to_hsv(r, g, b)
    return colorsys.hsv_to_rgb((h + shift) % 1, s, v)


def saturate(r: float, g: float, b: float, factor: float) -> tuple[float, float, float]:
    """A colour 0..1 with its saturation multiplied, at most 1."""
    h, s, v = colorsys.rgb_to_hsv(r, g, b)
    return colorsys.hsv_to_rgb(h, min(s * factor, 1), v)


def tensorflow_colours(image: Image, hue: float, contrast: float, saturation: float, brightness: float) -> Image:
    """TensorFlow's hue, contrast, saturation and brightness, clipped after each."""

    def clip(colour) -> tuple[float, ...]:
        return tuple(min(max(value, 0.0), 1.0) for value in colour)

    h, w = len(image[0]), len(image[0][0])
    turned = [[clip(turn_hue(*(image[c][y][x] / 255 for c in range(3)), hue)) for x in range(w)] for y in range(h)]
    mean = [sum(turned[y][x][c] for y in range(h) for x in range(w)) / (h * w) for c in range(3)]
    result = [[[0.0] * w for _ in range(h)] for _ in range(3)]
    for y in range(h):
        for x in range(w):
            colour = clip((turned[y][x][c] - mean[c]) * contrast + mean[c] for c in range(3))
            colour = clip(saturate(*colour, saturation))
            for c in range(3):
                result[c][y][x] = round(255 * min(max(colour[c] + brightness, 0.0), 1.0))
    return result


def crop_size(height: int, width: int, aspect: float, area: tuple[float, float], draw) -> tuple[int, int] | None:
    """TensorFlow's random crop of one aspect ratio: (height, width), or None; ``draw(low, high)`` is a whole number."""
    heights = []
    for h in range(0, height + 1):  # the largest whose width fits, and whose area does before rounding
        if round(h * aspect) <= width and h <= round(math.sqrt(area[1] * height * width / aspect)):
            heights.append(h)
    most = max(heights)
    least = min(round(math.sqrt(area[0] * height * width / aspect)), most)
    h = draw(least, most)
    w = round(h * aspect)
    if h * w < area[0] * height * width:
        h += 1
        w = round(h * aspect)
    if h * w > area[1] * height * width:
        h -= 1
        w = round(h * aspect)
    fits = area[0] * height * width <= h * w <= area[1] * height * width
    return (h, w) if fits and 0 < h <= height and 0 < w <= width else None
