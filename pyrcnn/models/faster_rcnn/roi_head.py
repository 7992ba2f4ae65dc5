"""The RoI head: regions pooled from the features, their classes and boxes (Girshick 2015; Ren et al. 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import ops
from ...errors import require
from ..layers import ConvNorm, Float32Linear, float32, he_normal
from ..outputs import PaddedDetections
from .config import RoIConfig
from .suppression import suppress_then_clip

POOLS = ("align", "max", "crop")


def crop_and_pool(features: Tensor, boxes: Tensor, height: int, width: int, resolution: int) -> Tensor:
    """TensorFlow's RoI pooling: bilinear crops of the boxes [N, K, 4], then 2×2 maxima: [N * K, C, S / 2, S / 2].

    Boxes are divided by ``height`` and ``width`` of the network input, so that 1 is the map's last row and column.
    """
    x1, y1, x2, y2 = boxes.flatten(0, 1).unbind(1)
    normalized = torch.stack([y1 / height, x1 / width, y2 / height, x2 / width], 1)
    image = torch.arange(boxes.shape[0], device=boxes.device)[:, None].expand(-1, boxes.shape[1]).flatten()
    return F.max_pool2d(ops.crop_and_resize(features, normalized, image, resolution), 2)


def max_pool_levels(features: Sequence[Tensor], rois: Tensor, resolution: int, scales: Sequence[float]) -> Tensor:
    """RoIPool of RoIs [K, 5] from a pyramid, each from the level of :func:`level_of`: [K, C, S, S].

    Every level pools all RoIs, so that shapes are fixed and the host does not wait for the device.
    """
    pooled = ops.roi_pool(features[0], rois, resolution, scales[0])
    if len(scales) > 1:
        levels = level_of(rois[:, 1:], scales)[:, None, None, None]
        for level in range(1, len(scales)):
            pooled = torch.where(
                levels == level, ops.roi_pool(features[level], rois, resolution, scales[level]), pooled
            )
    return pooled


def level_of(boxes: Tensor, scales: Sequence[float]) -> Tensor:
    """The index of the level that each box [K, 4] reads (Lin et al. 2017, eq. 1): [K], as ``ops.roi_align_levels``.

    A box with a side of 224 pixels reads level 4, the map of stride 16.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).to(torch.float32)
    size = sides.prod(1).clamp(min=torch.finfo(torch.float32).tiny).sqrt()
    level = torch.floor(4 + torch.log2(size / 224) + 1e-6) + math.log2(scales[0])
    return level.clamp(0, len(scales) - 1).to(torch.int64)


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
        he_normal(self.convs)

    def forward(self, regions: Tensor) -> Tensor:
        """[K, C, S, S] → [K, channels]."""
        x = self.convs(regions).flatten(1)  # channel-major, whatever the memory format
        for name in self.fcs:
            x = F.relu(self.get_submodule(name)(x))
            if self.dropout:
                x = F.dropout(x, self.dropout, self.training)
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
    """Region features → class logits, background first, and four deltas per class, in float32 (Girshick 2015)."""

    def __init__(self, channels: int, num_classes: int, class_agnostic: bool):
        super().__init__()
        self.cls_score = Float32Linear(channels, num_classes + 1)
        self.bbox_pred = Float32Linear(channels, 4 if class_agnostic else 4 * num_classes)
        for layer, deviation in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[K, channels] → [K, num_classes + 1] and [K, 4 * num_classes] (or [K, 4])."""
        return self.cls_score(x), self.bbox_pred(x)


class RoIHead(nn.Module):
    """Proposals → detections: pool a region of each from the level that fits its size, classify it, refine its box."""

    def __init__(
        self, config: RoIConfig, channels: int, strides: Sequence[int], num_classes: int, conv5: nn.Module | None = None
    ):
        super().__init__()
        require(config.pool in POOLS, f"pool must be one of {', '.join(POOLS)}, got {config.pool!r}")
        require(config.head in ("mlp", "conv5"), f"head must be mlp or conv5, got {config.head!r}")
        alone = config.pool != "crop" or len(strides) == 1
        require(alone, f"pool must be align or max with a pyramid (fpn_channels), got {config.pool!r}")
        self.config = config
        self.scales = [1 / stride for stride in strides]
        if config.head == "conv5":
            require(conv5 is not None, "head conv5 needs a ResNet backbone without a pyramid")
            self.head: nn.Module = Conv5Head(conv5)  # type: ignore[arg-type]
        else:
            self.head = MLPHead(channels, config)
        self.predictor = Predictor(self.head.channels, num_classes, config.class_agnostic)  # type: ignore[arg-type]

    @property
    def resolution(self) -> int:
        """Cells per side of a pooled region."""
        return self.config.resolution // 2 if self.config.pool == "crop" else self.config.resolution

    def pool(self, features: Sequence[Tensor], boxes: Tensor, height: int, width: int) -> Tensor:
        """Regions [N * K, C, S, S] of ``boxes`` [N, K, 4], pooled from ``features`` (per level [N, C, H, W]).

        ``height`` and ``width`` are those of the network input.
        """
        c = self.config
        if c.pool == "crop":
            return crop_and_pool(features[0], boxes, height, width, c.resolution)
        levels = list(features[: len(self.scales)])
        image = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
        rois = torch.cat([image[:, None, None].expand(-1, boxes.shape[1], 1), boxes], 2).flatten(0, 1)  # [N * K, 5]
        if c.pool == "max":
            return max_pool_levels(levels, rois, c.resolution, self.scales)
        return ops.roi_align_levels(levels, rois, c.resolution, self.scales, c.sampling_ratio, c.aligned)

    def forward(self, features: Sequence[Tensor], boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Class logits [N, K, C + 1] and deltas [N, K, 4C] (or [N, K, 4]) of ``boxes`` [N, K, 4]."""
        logits, deltas = self.predictor(self.head(self.pool(features, boxes, height, width)))
        return logits.unflatten(0, boxes.shape[:2]), deltas.unflatten(0, boxes.shape[:2])

    def detect(
        self, logits: Tensor, deltas: Tensor, proposals: Tensor, counts: Tensor, sizes: Tensor
    ) -> PaddedDetections:
        """Detections from what :meth:`forward` returned for the first ``counts`` [N] of ``proposals`` [N, K, 4]."""
        c = self.config
        if c.clip_last:
            boxes = ops.decode_boxes(float32(deltas), proposals, c.weights, c.clip)  # [N, K, 4]: class-agnostic
            return suppress_then_clip(
                boxes,
                float32(logits).softmax(2)[..., 1:].transpose(1, 2),  # [N, C, K]
                sizes,
                c.nms_threshold,
                c.max_per_class or boxes.shape[1],
                c.max_detections,
                score_threshold=c.score_threshold,
                counts=counts,
            )
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
