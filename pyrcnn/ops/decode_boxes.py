"""Regression deltas to boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ._register import input_errors

_op = torch.ops.pyrcnn.decode_boxes.default

DELTA_CLIP = math.log(1000 / 16)


@input_errors
def decode_boxes(
    deltas: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0), clip: float = DELTA_CLIP
) -> Tensor:
    """Apply regression deltas [..., 4] to anchors [..., 4] and return boxes [..., 4] (Ren et al. 2015, eq. 2).

    ``deltas`` are (dx, dy, dw, dh), each divided by its ``weights`` entry; dw and dh are capped at ``clip`` before exp.
    """
    boxes = _op(deltas.reshape(-1, 4), anchors.expand(deltas.shape).reshape(-1, 4), list(weights), clip)
    return boxes.reshape(deltas.shape)


@torch.library.register_fake("pyrcnn::decode_boxes")
def _(deltas: Tensor, anchors: Tensor, weights: list[float], clip: float) -> Tensor:
    return torch.empty_like(deltas, memory_format=torch.contiguous_format)
