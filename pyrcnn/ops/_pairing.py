"""Rows [..., 4] paired with anchors that broadcast to them, without copying the anchors where that is possible."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import require

_HALF = (torch.float16, torch.bfloat16)


def pair(name: str, rows: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, int]:
    """Bring the dtypes together and return (rows, anchors, repeat): row i has anchor (i // repeat) % len(anchors)."""
    if rows.dtype != anchors.dtype and not (anchors.dtype == torch.float32 and rows.dtype in _HALF):
        both = torch.promote_types(rows.dtype, anchors.dtype)
        rows, anchors = rows.to(both), anchors.to(both)
    if rows.shape == anchors.shape:
        return rows, anchors, 1
    missing = rows.ndim - anchors.ndim
    fits = missing >= 0 and all(a in (1, r) for a, r in zip(anchors.shape[:-1], rows.shape[missing:-1], strict=True))
    require(
        fits and rows.shape[-1] == anchors.shape[-1] == 4,
        f"anchors must be [..., 4] and broadcast to {name} {list(rows.shape)}, got {list(anchors.shape)}",
    )
    # sizes of 1 at the end repeat each anchor, sizes of 1 in front repeat all of them; between them all must be there
    sizes = list(anchors.shape[:-1])
    repeat, dim = 1, rows.ndim - 2
    while sizes and sizes[-1] == 1:
        sizes.pop()
        repeat *= rows.shape[dim]
        dim -= 1
    while sizes and sizes[0] == 1:
        sizes.pop(0)
    if sizes != list(rows.shape[dim + 1 - len(sizes) : dim + 1]):
        return rows, anchors.expand(rows.shape), 1
    return rows, anchors, repeat
