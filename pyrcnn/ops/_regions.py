"""Shared by the wrappers of RoIAlign and RoIPool: their arguments and the memory format of their results."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import require

# The native operators' argument names → torchvision's, for error messages.
NAMES = {"features": "input", "rois": "boxes", "scales": "spatial_scale"} | {
    f"output_{side}": "output_size" for side in ("height", "width")
}


def height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    """Return ``output_size`` as (height, width)."""
    if isinstance(size, int | torch.SymInt):
        return size, size
    if not isinstance(size, Sequence):
        return size, size  # of a wrong type; the operator raises the error
    require(len(size) in (1, 2), f"output_size must be one or two integers, got {size}")
    return size[0], size[-1]


def as_rois(boxes: Tensor | Sequence[Tensor]) -> Tensor:
    """Return RoIs [K, 5] (image index, x1, y1, x2, y2), given them or a list with the boxes [K, 4] of each image."""
    if isinstance(boxes, Tensor):
        require(boxes.dim() == 2 and boxes.shape[1] == 5, f"boxes must be [K, 5], got {list(boxes.shape)}")
        return boxes
    require(len(boxes) > 0, "boxes must hold one tensor per image, got an empty list")
    for b in boxes:
        require(isinstance(b, Tensor), f"boxes must hold tensors, got {type(b).__name__}")
        require(b.dim() == 2 and b.shape[1] == 4, f"boxes must be [K, 4] per image, got {list(b.shape)}")
    # half precision cannot hold image indices: bfloat16 has no odd integers above 256
    dtypes = [torch.float32 if b.dtype in (torch.float16, torch.bfloat16) else b.dtype for b in boxes]
    index = [
        b.new_full((b.shape[0], 1), i, dtype=dtype) for i, (b, dtype) in enumerate(zip(boxes, dtypes, strict=True))
    ]
    return torch.cat([torch.cat(index), torch.cat(list(boxes))], dim=1)


def is_channels_last(features: Sequence[Tensor]) -> bool:
    """Return whether the result is channels_last; the same rule as ``common_layout`` in roi_align_check.h."""
    for t in features:
        if not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last):
            return True
        cells = t.shape[2] * t.shape[3]
        several = isinstance(cells, torch.SymInt) or cells > 1  # maps of unknown size are not of one cell
        if t.is_contiguous() and t.shape[1] > 1 and several:
            return False
    return False


def memory_format(channels_last: bool) -> torch.memory_format:
    """Return torch's memory format."""
    return torch.channels_last if channels_last else torch.contiguous_format
