"""Images to one batch, one pixel at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def taps(size: int, new_size: int, legacy: bool) -> list[tuple[int, int, float]]:
    result = []
    for i in range(new_size):
        at = i * size / new_size if legacy else max((i + 0.5) * size / new_size - 0.5, 0.0)
        low = min(math.floor(at), size - 1)
        result.append((low, min(low + 1, size - 1), at - low))
    return result


def preprocess(
    images: Sequence[Tensor],
    size: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    sizes: Sequence[Sequence[int]],
    shift: float = 0.0,
    white: float = 1.0,
    legacy: bool = False,
    bgr: bool = False,
    pad_normalized: bool = False,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    batch = torch.zeros(len(images), 3, *size, dtype=torch.float64)
    for n, image in enumerate(images):
        full = 1.0 if image.is_floating_point() else 255.0
        rows = taps(image.shape[1], sizes[n][0], legacy)
        columns = taps(image.shape[2], sizes[n][1], legacy)
        for c in range(3):
            source = image[2 - c if bgr else c].double()
            for y in range(size[0]):
                for x in range(size[1]):
                    inside = y < len(rows) and x < len(columns)
                    value = 0.0
                    if inside:
                        (y0, y1, wy), (x0, x1, wx) = rows[y], columns[x]
                        top = float(source[y0, x0]) * (1 - wx) + float(source[y0, x1]) * wx
                        bottom = float(source[y1, x0]) * (1 - wx) + float(source[y1, x1]) * wx
                        value = (top * (1 - wy) + bottom * wy) / full * white
                    normal = (value - mean[c]) / std[c] - shift
                    batch[n, c, y, x] = normal if inside or not pad_normalized else 0.0
    return batch


def resize_by_pillow(image: Tensor, height: int, width: int) -> Tensor:
    """The image [3, H, W] of bytes as Pillow resizes it along x, then along y.

    Pillow 13 resizes along y first if the height shrinks much more than the width.
    """
    resized = Image.fromarray(image.permute(1, 2, 0).numpy())
    for size in ((width, resized.height), (width, height)):
        resized = resized.resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)
