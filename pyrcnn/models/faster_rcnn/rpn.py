"""The region proposal network: head, anchors, proposals and losses (Ren et al. 2015, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import require
from ...ops import clip_boxes_to_image, decode_boxes, generate_proposals, grid_anchors
from ..layers import Float32Conv2d, float32
from ..training import Term, Truth
from .anchors import ANCHORS
from .config import RPNConfig
from .suppression import suppress_then_clip
from .targets import rpn_losses


class RPNHead(nn.Module):
    """3×3 convolutions, then 1×1 for an objectness logit and four deltas per anchor; all levels share it.

    One logit per anchor suffices: a softmax over (background, object) is the sigmoid of their difference.
    """

    def __init__(self, channels: int, width: int, anchors: int, convs: int, activation: str):
        super().__init__()
        self.activation = {"relu": F.relu, "relu6": F.relu6}[activation]
        self.conv = nn.ModuleList(nn.Conv2d(width if i else channels, width, 3, padding=1) for i in range(convs))
        self.cls_logits = Float32Conv2d(width, anchors, 1)
        self.bbox_pred = Float32Conv2d(width, 4 * anchors, 1)
        for layer in [*self.conv, self.cls_logits, self.bbox_pred]:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One level [N, C, H, W] → logits [N, A, H, W], deltas [N, 4A, H, W] (dx, dy, dw, dh of anchor 0, 1, …)."""
        for conv in self.conv:
            x = self.activation(conv(x))
        return self.cls_logits(x), self.bbox_pred(x)


def flat_logits(logits: Sequence[Tensor]) -> Tensor:
    """Per level [N, A, H, W] → [N, K] in the order of the anchors."""
    return torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in logits], 1)


def flat_deltas(deltas: Sequence[Tensor]) -> Tensor:
    """Per level [N, 4A, H, W] → [N, K, 4] in the order of the anchors."""
    return torch.cat([x.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)) for x in deltas], 1)


class RPN(nn.Module):
    """Anchors on every cell of every level, and the network that scores and refines them."""

    def __init__(self, config: RPNConfig, channels: int, strides: Sequence[int]):
        super().__init__()
        require(config.anchors in ANCHORS, f"anchors must be one of {', '.join(ANCHORS)}, got {config.anchors!r}")
        require(len(config.sizes) == len(strides), f"sizes must be one per level ({len(strides)}), got {config.sizes}")
        self.config = config
        self.strides = tuple(strides)
        for level, cell in enumerate(self.make_cells()):
            self.register_buffer(f"cell{level}", cell, persistent=False)
        count = len(config.sizes[0]) * len(config.ratios)
        self.head = RPNHead(channels, config.channels or channels, count, config.convs, config.activation)

    @property
    def cells(self) -> list[Tensor]:
        """Per level, the anchors [A, 4] of the cell at the origin."""
        return [self.get_buffer(f"cell{level}") for level in range(len(self.strides))]

    def make_cells(self) -> list[Tensor]:
        """:attr:`cells` computed afresh."""
        with torch.device("cpu"):  # on meta, a square root would import torch's compiler
            cells = [ANCHORS[self.config.anchors](sizes, self.config.ratios) for sizes in self.config.sizes]
        return [cell.to(torch.get_default_device()) for cell in cells]

    def _apply(self, fn: Any, recurse: bool = True) -> RPN:
        """Convert the head; compute the anchors again, so that they stay float32 and leave the meta device."""
        super()._apply(fn, recurse)
        device = self.cells[0].device
        for level, cell in enumerate(self.make_cells()):
            setattr(self, f"cell{level}", cell.to(device))
        return self

    def spacing(self, features: Sequence[Tensor], height: int, width: int) -> list[tuple[int, int]]:
        """Per level, the distance (y, x) between anchors for a network input of ``height`` × ``width``.

        torchvision divides the input by the map's size: 800 // 13 = 61, not 64, where 12.5 cells were rounded up to 13.
        While a program is exported for inputs of any size, these are not numbers: ``generate_proposals`` divides.
        """
        if self.config.anchors == "torchvision" and isinstance(height, torch.SymInt):
            first = self.strides[0]  # divides the input, whose sides are multiples of 32
            return [(first, first), *[(0, 0)] * (len(features) - 1)]
        if self.config.anchors == "torchvision":
            return [(height // f.shape[-2], width // f.shape[-1]) for f in features]
        return [(stride, stride) for stride in self.strides]

    def predict(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level, the head's logits [N, A, H, W] and deltas [N, 4A, H, W]."""
        logits, deltas = zip(*(self.head(x) for x in features), strict=True)
        return list(logits), list(deltas)

    def propose(
        self, features: Sequence[Tensor], sizes: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Proposals of a network input of ``height`` × ``width``: boxes [N, K, 4], scores [N, K] and counts [N]."""
        logits, deltas = self.predict(features)
        return self.select(logits, deltas, sizes, height, width, training=False)

    def anchors(self, features: Sequence[Tensor], height: int, width: int) -> Tensor:
        """All anchors [K, 4], level by level, row by row, those of a cell together."""
        grid = [(f.shape[-2], f.shape[-1]) for f in features]
        anchors = torch.cat(grid_anchors(grid, self.spacing(features, height, width), self.cells))
        return clip_boxes_to_image(anchors, (height, width)) if self.config.clip_anchors else anchors

    def select(
        self, logits: list[Tensor], deltas: list[Tensor], sizes: Tensor, height: int, width: int, training: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What :meth:`propose` returns, from the head's outputs."""
        c = self.config
        logits, deltas = [float32(x.detach()) for x in logits], [float32(x.detach()) for x in deltas]
        if c.clip_anchors:
            boxes = decode_boxes(flat_deltas(deltas), self.anchors(logits, height, width), c.weights, c.clip)
            scores, most = flat_logits(logits).sigmoid()[:, None], c.after_nms[0 if training else 1]
            found = suppress_then_clip(boxes, scores, sizes, c.nms_threshold, most, most)
            return found.boxes, found.scores, found.counts
        return generate_proposals(
            logits,
            deltas,
            self.cells,
            self.spacing(logits, height, width),
            sizes,
            c.before_nms[0 if training else 1],
            c.after_nms[0 if training else 1],
            c.nms_threshold,
            min_size=c.min_size,
            weights=c.weights,
            clip=c.clip,
        )

    def loss(
        self, features: Sequence[Tensor], sizes: Tensor, height: int, width: int, targets: Truth
    ) -> tuple[dict[str, Term], Tensor, Tensor]:
        """Losses, and the proposals [N, K, 4] and counts [N] that the RoI head learns from (without gradient)."""
        logits, deltas = self.predict(features)
        anchors = self.anchors(features, height, width)
        losses = rpn_losses(flat_logits(logits), flat_deltas(deltas), anchors, targets, sizes, self.config)
        proposals, _, counts = self.select(logits, deltas, sizes, height, width, training=True)
        return losses, proposals, counts
