"""The region proposal network: anchors, head, the boxes it proposes, its losses (Ren et al. 2015, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import require
from ...ops import clip_boxes_to_image, decode_boxes, generate_proposals, grid_anchors, nms_padded
from ..layers import Float32Conv2d, float32
from .targets import PaddedTargets, rows, rpn_losses


@dataclass(frozen=True)
class RPNConfig:
    """The proposal network. Pairs are (training, inference)."""

    sizes: tuple[tuple[float, ...], ...] = ((32,), (64,), (128,), (256,), (512,))  # anchors' sides, pixels, per level
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width; "tensorflow" anchors: width / height
    anchors: str = "torchvision"  # a name of ANCHORS
    channels: int = 0  # of the 3×3 convolutions; 0: as many as the features have
    convs: int = 1
    activation: str = "relu"  # or "relu6"
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)  # of the box code
    clip: float = math.log(1000 / 16)  # largest dw, dh
    before_nms: tuple[int, int] = (2000, 1000)  # per level
    after_nms: tuple[int, int] = (2000, 1000)  # over all levels
    nms_threshold: float = 0.7
    min_size: float = 1e-3  # smaller proposals are dropped, network pixels
    foreground: float = 0.7  # IoU from which an anchor is an object
    background: float = 0.3  # IoU below which it is background
    drop_outside: bool = False  # do not learn from anchors that leave the image
    clip_anchors: bool = False  # cut anchors at the pixels' border, suppress before clipping (TensorFlow)
    samples: int = 256  # anchors learnt from, per image
    positives: float = 0.5  # at most this share of them objects
    beta: float = 1 / 9  # where smooth L1 turns linear; 0: L1
    box_weight: float = 1.0


def torchvision_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """[A, 4], size fastest, corners rounded to whole pixels."""
    ratio = torch.tensor(ratios, dtype=torch.float32).sqrt()  # sqrt(h / w)
    side = torch.tensor(sizes, dtype=torch.float32)
    height = (ratio[:, None] * side).flatten()
    width = ((1 / ratio)[:, None] * side).flatten()
    return (torch.stack([-width, -height, width, height], 1) / 2).round()


def detectron2_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """[A, 4], ratio fastest, not rounded."""
    shapes = [(math.sqrt(size**2 / ratio), ratio) for size in sizes for ratio in ratios]  # width, height / width
    return torch.tensor([(-w / 2, -r * w / 2, w / 2, r * w / 2) for w, r in shapes])


def paper_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """[A, 4], size fastest: the boxes of the authors' code, which stretches a rounded 16×16 cell.

    There a box ends at its last pixel, here just behind it: x2 and y2 are larger by 1, widths and decoded boxes the
    same. The cell's centre is 7.5 in their pixels, 8 in continuous ones.
    """
    shapes = []
    for ratio in ratios:
        width = round(math.sqrt(16 * 16 / ratio))
        height = round(width * ratio)
        shapes += [(width * size / 16, height * size / 16) for size in sizes]
    return torch.tensor([(8 - w / 2, 8 - h / 2, 8 + w / 2, 8 + h / 2) for w, h in shapes])


def tensorflow_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """[A, 4], size fastest, ratios are width / height, not rounded."""
    shapes = [(size * math.sqrt(ratio), size / math.sqrt(ratio)) for ratio in ratios for size in sizes]
    return torch.tensor([(-w / 2, -h / 2, w / 2, h / 2) for w, h in shapes])


ANCHORS: dict[str, Callable[[Sequence[float], Sequence[float]], Tensor]] = {
    "torchvision": torchvision_anchors,
    "detectron2": detectron2_anchors,
    "paper": paper_anchors,
    "tensorflow": tensorflow_anchors,
}


class RPNHead(nn.Module):
    """3×3 convolutions, then 1×1 for an objectness logit and four deltas per anchor; shared by all levels.

    One logit per anchor: a softmax over (background, object) is the sigmoid of their difference.
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
    """Per level [N, A, H, W] → [N, M] in the order of the anchors."""
    return torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in logits], 1)


def flat_deltas(deltas: Sequence[Tensor]) -> Tensor:
    """Per level [N, 4A, H, W] → [N, M, 4] in the order of the anchors."""
    return torch.cat([x.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)) for x in deltas], 1)


def suppress_then_clip(
    logits: Tensor, deltas: Tensor, anchors: Tensor, sizes: Tensor, config: RPNConfig, training: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """TensorFlow's proposals, of ``logits`` [N, M], ``deltas`` [N, M, 4], ``anchors`` [M, 4]: as :meth:`RPN.propose`.

    Every anchor takes part (no first cut), overlaps are judged before boxes are clipped to ``sizes`` [N, 2], and boxes
    that then have no area are dropped.
    """
    boxes = decode_boxes(float32(deltas.detach()), anchors, config.weights, config.clip)
    scores = float32(logits.detach()).sigmoid()
    indices, _ = nms_padded(boxes, scores, config.nms_threshold, config.after_nms[0 if training else 1])
    boxes, found = rows(boxes, indices.clamp(min=0)), indices >= 0
    limits = sizes.to(boxes.dtype).flip(-1).repeat(1, 2)[:, None]  # [N, 1, 4] as x, y, x, y
    boxes = boxes.clamp(min=0).minimum(limits)
    found &= (boxes[..., 2:] > boxes[..., :2]).all(-1)
    order = (~found).to(torch.uint8).argsort(dim=1, stable=True)  # what is left first, in descending score
    found = found.gather(1, order)
    scores = scores.gather(1, indices.clamp(min=0)).gather(1, order)
    return torch.where(found[..., None], rows(boxes, order), 0.0), torch.where(found, scores, 0.0), found.sum(1)


class RPN(nn.Module):
    """Anchors on every cell of every level, judged and refined by one small network."""

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
        """Per level the anchors [A, 4] of the cell at the origin."""
        return [self.get_buffer(f"cell{level}") for level in range(len(self.strides))]

    def make_cells(self) -> list[Tensor]:
        """:attr:`cells` computed afresh."""
        with torch.device("cpu"):  # the meta device would load torch's compiler to tell the shape of a square root
            cells = [ANCHORS[self.config.anchors](sizes, self.config.ratios) for sizes in self.config.sizes]
        return [cell.to(torch.get_default_device()) for cell in cells]

    def _apply(self, fn: Any, recurse: bool = True) -> RPN:
        """Whatever dtype the network takes, the anchors stay float32; they also survive the meta device."""
        super()._apply(fn, recurse)
        device = self.cells[0].device
        for level, cell in enumerate(self.make_cells()):
            setattr(self, f"cell{level}", cell.to(device))
        return self

    def spacing(self, features: Sequence[Tensor], height: int, width: int) -> list[tuple[int, int]]:
        """Per level the distance (y, x) between anchors, for pixels of ``height`` × ``width``.

        torchvision divides the image by the map: 61 instead of 64 where a level of 12.5 cells was rounded up to 13.
        """
        if self.config.anchors == "torchvision":
            return [(height // f.shape[-2], width // f.shape[-1]) for f in features]
        return [(stride, stride) for stride in self.strides]

    def predict(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level the head's logits [N, A, H, W] and deltas [N, 4A, H, W]."""
        logits, deltas = zip(*(self.head(x) for x in features), strict=True)
        return list(logits), list(deltas)

    def propose(
        self, features: Sequence[Tensor], sizes: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best boxes [N, P, 4] with scores [N, P] and counts [N]; pixels are ``height`` × ``width``."""
        logits, deltas = self.predict(features)
        return self.select(logits, deltas, sizes, height, width, training=False)

    def anchors(self, features: Sequence[Tensor], height: int, width: int) -> Tensor:
        """All anchors [M, 4], level by level, row by row, those of a cell together."""
        grid = [(f.shape[-2], f.shape[-1]) for f in features]
        anchors = torch.cat(grid_anchors(grid, self.spacing(features, height, width), self.cells))
        return clip_boxes_to_image(anchors, (height, width)) if self.config.clip_anchors else anchors

    def select(
        self, logits: list[Tensor], deltas: list[Tensor], sizes: Tensor, height: int, width: int, training: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode the head's outputs, keep the best of each level, drop overlaps: as :meth:`propose` returns."""
        c = self.config
        if c.clip_anchors:
            anchors = self.anchors(logits, height, width)
            return suppress_then_clip(flat_logits(logits), flat_deltas(deltas), anchors, sizes, c, training)
        return generate_proposals(
            [float32(x.detach()) for x in logits],
            [float32(x.detach()) for x in deltas],
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
        self, features: Sequence[Tensor], sizes: Tensor, height: int, width: int, targets: PaddedTargets
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Losses, and the proposals [N, P, 4] and counts [N] that the RoI head learns from (without gradient)."""
        logits, deltas = self.predict(features)
        anchors = self.anchors(features, height, width)
        losses = rpn_losses(flat_logits(logits), flat_deltas(deltas), anchors, targets, sizes, self.config)
        proposals, _, counts = self.select(logits, deltas, sizes, height, width, training=True)
        return losses, proposals, counts
