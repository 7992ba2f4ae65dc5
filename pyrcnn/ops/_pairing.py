"""Brings rows [..., 4] and anchors that broadcast to them into the form that the operators take."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import require

_HALF = (torch.float16, torch.bfloat16)


def broadcast_anchors(name: str, rows: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return (rows, anchors, repeat) of one dtype, so that row i has anchor ``(i // repeat) % len(anchors)``.

    Anchors are copied only if no ``repeat`` describes the broadcast. ``name`` is the argument's name in messages.
    """
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
    # trailing sizes of 1 repeat each anchor, leading ones repeat all anchors; the sizes between must be equal
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
