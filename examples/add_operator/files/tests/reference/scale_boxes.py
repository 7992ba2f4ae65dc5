"""scale_boxes by its definition."""

from __future__ import annotations

import torch
from torch import Tensor


def scale_boxes(boxes: Tensor, factor: float) -> Tensor:
    """Return every coordinate of ``boxes`` [K, 4] times ``factor``."""
    scaled = [[coordinate * factor for coordinate in box] for box in boxes.tolist()]
    return torch.tensor(scaled, dtype=boxes.dtype).reshape(-1, 4)
