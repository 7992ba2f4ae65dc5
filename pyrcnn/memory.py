"""Memory: glibc's allocator without page faults on a CPU, and copies to a GPU that the host does not wait for."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Make glibc's allocator reuse freed memory instead of returning it to the system.

    A model allocates and frees hundreds of tensors of tens of megabytes. By default glibc maps each one anew, and every
    page of it faults: 45% of the time of a CenterNet training step (4.4 s instead of 2.2 s for 4 images of 512x512 on
    one core), and a tenth of a Faster R-CNN inference at 800x1333 (163,000 page faults per image).

    The process keeps its largest size from then on. The first calls after this one may still fault: glibc moves the
    remainders of aligned blocks to its cache of small blocks, which holds seven of each size, and until that is full
    a freed block is slightly too short for the next request of the same size.

    Returns:
        True if the allocator accepted the settings; False on systems without glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26))
    return all([mallopt(option, value) == 1 for option, value in settings])


def upload(values: Tensor, device: torch.device) -> Tensor:
    """``values`` on ``device``. The host does not wait for a GPU: it copies from pinned memory."""
    if torch.compiler.is_compiling():  # a compiler makes a constant of it
        return values.to(device)
    if device.type == "cuda" and values.device.type == "cpu" and not values.is_pinned():
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
