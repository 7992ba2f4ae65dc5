"""The second stage: regions pooled from the features, their classes and boxes (Girshick 2015; Ren et al. 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import ops
from ...errors import require
from ..layers import ConvNorm, float32
from ..outputs import PaddedDetections

POOLS = ("align", "max")


@dataclass(frozen=True)
class RoIConfig:
    """The RoI head."""

    pool: str = "align"  # a name of POOLS: RoIAlign over the levels, or RoIPool as in 2015
    resolution: int = 7  # cells per side of a pooled region
    sampling_ratio: int = 2  # points per cell and side; 0: as many as the region has cells
    aligned: bool = False  # RoIAlign with the half-cell shift (detectron2)
    head: str = "mlp"  # "mlp", or "conv5": the ResNet's last stage
    convs: int = 0  # 3×3 convolutions with batch norm before the mlp
    fcs: int = 2  # fully connected layers
    width: int = 1024  # of each
    dropout: float = 0.0
    class_agnostic: bool = False  # one box for all classes
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)  # of the box code
    clip: float = math.log(1000 / 16)  # largest dw, dh
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100
    max_per_class: int | None = None  # of one class, None: no limit
    min_size: float = 1e-2  # smaller detections are dropped, network pixels
    foreground: float = 0.5  # IoU from which a proposal is an object
    background: float = 0.5  # IoU below which it is background
    samples: int = 512  # proposals learnt from, per image
    positives: float = 0.25  # at most this share of them objects
    beta: float = 1 / 9  # where smooth L1 turns linear; 0: L1
    box_weight: float = 1.0


class MLPHead(nn.Module):
    """Pooled regions [K, C, S, S] → [K, width]: optional 3×3 convolutions, then fully connected layers fc6, fc7."""

    def __init__(self, channels: int, config: RoIConfig):
        super().__init__()
        self.convs = nn.Sequential(*(ConvNorm(channels, channels, 3) for _ in range(config.convs)))
        inputs = channels * config.resolution**2
        names = [f"fc{6 + i}" for i in range(config.fcs)]
        self.fcs = names
        for name in names:
            self.add_module(name, nn.Linear(inputs, config.width))
            inputs = config.width
        self.dropout = config.dropout
        self.channels = inputs
        for module in self.convs.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, regions: Tensor) -> Tensor:
        """[K, C, S, S] → [K, channels]."""
        x = self.convs(regions).flatten(1)  # channel-major, whatever the memory format
        for name in self.fcs:
            x = F.dropout(F.relu(self.get_submodule(name)(x)), self.dropout, self.training)
        return x


class Conv5Head(nn.Module):
    """Pooled regions [K, 1024, 14, 14] → [K, 2048]: ResNet's conv5 stage, then the mean over its cells ("C4")."""

    def __init__(self, stage: nn.Module):
        super().__init__()
        self.layer4 = stage
        self.channels = 2048

    def forward(self, regions: Tensor) -> Tensor:
        """[K, 1024, S, S] → [K, 2048]."""
        return self.layer4(regions).mean((2, 3))


class Predictor(nn.Module):
    """Region features → class logits, background first, and four deltas per class; initialised as Fast R-CNN's."""

    def __init__(self, channels: int, num_classes: int, class_agnostic: bool):
        super().__init__()
        self.cls_score = nn.Linear(channels, num_classes + 1)
        self.bbox_pred = nn.Linear(channels, 4 if class_agnostic else 4 * num_classes)
        for layer, deviation in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[K, channels] → [K, num_classes + 1] and [K, 4 * num_classes] (or [K, 4])."""
        return self.cls_score(x), self.bbox_pred(x)


class RoIHead(nn.Module):
    """Proposals → detections: pool each from the level that suits its size, classify it and refine its box."""

    def __init__(
        self, config: RoIConfig, channels: int, strides: Sequence[int], num_classes: int, conv5: nn.Module | None = None
    ):
        super().__init__()
        require(config.pool in POOLS, f"pool must be one of {', '.join(POOLS)}, got {config.pool!r}")
        require(config.head in ("mlp", "conv5"), f"head must be mlp or conv5, got {config.head!r}")
        self.config = config
        self.scales = [1 / stride for stride in strides]
        if config.head == "conv5":
            require(conv5 is not None, "head conv5 needs a ResNet backbone without a pyramid")
            self.head: nn.Module = Conv5Head(conv5)  # type: ignore[arg-type]
        else:
            self.head = MLPHead(channels, config)
        self.predictor = Predictor(self.head.channels, num_classes, config.class_agnostic)  # type: ignore[arg-type]

    def pool(self, features: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """``boxes`` [N, P, 4] out of the first levels of ``features`` (per level [N, C, H, W]): [N * P, C, S, S]."""
        c = self.config
        levels = list(features[: len(self.scales)])
        image = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
        rois = torch.cat([image[:, None, None].expand(-1, boxes.shape[1], 1), boxes], 2).flatten(0, 1)  # [N * P, 5]
        if c.pool == "max":
            return ops.roi_pool(levels[0], rois.to(levels[0].dtype), c.resolution, self.scales[0])
        return ops.roi_align_levels(levels, rois, c.resolution, self.scales, c.sampling_ratio, c.aligned)

    def forward(self, features: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [N, P, C + 1] and deltas [N, P, 4 C] (or [N, P, 4]) of ``boxes`` [N, P, 4]."""
        logits, deltas = self.predictor(self.head(self.pool(features, boxes)))
        return logits.unflatten(0, boxes.shape[:2]), deltas.unflatten(0, boxes.shape[:2])

    def detect(
        self, logits: Tensor, deltas: Tensor, proposals: Tensor, counts: Tensor, sizes: Tensor
    ) -> PaddedDetections:
        """Class scores above the threshold, boxes refined and clipped, overlaps dropped per class, the best kept."""
        c = self.config
        found = ops.roi_detections(
            float32(logits),
            float32(deltas),
            proposals,
            counts,
            sizes,
            c.score_threshold,
            c.nms_threshold,
            c.max_detections,
            weights=c.weights,
            clip=c.clip,
            min_size=c.min_size,
            max_per_class=c.max_per_class,
        )
        return PaddedDetections(*found)
