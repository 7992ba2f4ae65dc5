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
from ..layers import ConvNorm, Float32Linear, float32, he_normal
from ..outputs import PaddedDetections
from .targets import rows

POOLS = ("align", "max", "crop")


@dataclass(frozen=True)
class RoIConfig:
    """The RoI head."""

    pool: str = (
        "align"  # RoIAlign over the levels; "max": RoIPool as in 2015; "crop": TensorFlow's crop and 2×2 maximum
    )
    resolution: int = 7  # cells per side of a pooled region; of a crop: before its maximum
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
    clip_last: bool = False  # judge overlaps before boxes are clipped to the image (TensorFlow)
    min_size: float = 1e-2  # smaller detections are dropped, network pixels
    foreground: float = 0.5  # IoU from which a proposal is an object
    background: float = 0.5  # IoU below which it is background
    samples: int = 512  # proposals learnt from, per image
    positives: float = 0.25  # at most this share of them objects
    beta: float = 1 / 9  # where smooth L1 turns linear; 0: L1
    box_weight: float = 1.0


def crop_and_pool(features: Tensor, boxes: Tensor, height: int, width: int, resolution: int) -> Tensor:
    """TensorFlow's RoI pooling: bilinear crops of the boxes [N, P, 4], then 2×2 maxima: [N * P, C, S / 2, S / 2].

    A box is divided by the pixels' ``height`` and ``width``, so that 1 is the map's last row and column.
    """
    x1, y1, x2, y2 = boxes.flatten(0, 1).unbind(1)
    normalized = torch.stack([y1 / height, x1 / width, y2 / height, x2 / width], 1)
    image = torch.arange(boxes.shape[0], device=boxes.device)[:, None].expand(-1, boxes.shape[1]).flatten()
    return F.max_pool2d(ops.crop_and_resize(features, normalized, image, resolution), 2)


def suppress_then_clip(
    logits: Tensor, deltas: Tensor, proposals: Tensor, counts: Tensor, sizes: Tensor, config: RoIConfig
) -> PaddedDetections:
    """TensorFlow's detections, of one box per proposal (``deltas`` [N, P, 4]): arguments as in :meth:`RoIHead.detect`.

    Per class the best ``max_per_class`` that do not overlap; these are clipped, those without area dropped, and the
    best ``max_detections`` of all classes remain.
    """
    scores = logits.softmax(2)[..., 1:].transpose(1, 2)  # [N, C, P]
    images, classes, count = scores.shape
    boxes = ops.decode_boxes(deltas, proposals, config.weights, config.clip)[:, None].expand(-1, classes, -1, -1)
    most = min(config.max_per_class or count, count)
    kept, _ = ops.nms_padded(
        boxes.flatten(0, 1),
        scores.flatten(0, 1),
        config.nms_threshold,
        most,
        score_threshold=config.score_threshold,
        valid=counts.repeat_interleave(classes, output_size=images * classes),
    )
    kept = kept.unflatten(0, (images, classes))  # [N, C, most]
    proposal = kept.clamp(min=0).flatten(1)  # [N, C * most]
    kept_scores = scores.gather(2, kept.clamp(min=0)).flatten(1)
    limits = sizes.to(boxes.dtype).flip(-1).repeat(1, 2)[:, None]  # [N, 1, 4] as x, y, x, y
    kept_boxes = rows(boxes[:, 0], proposal).clamp(min=0).minimum(limits)
    real = (kept.flatten(1) >= 0) & (kept_boxes[..., 2:] > kept_boxes[..., :2]).all(-1)
    short = max(config.max_detections - proposal.shape[1], 0)
    best, order = F.pad(torch.where(real, kept_scores, -1.0), (0, short), value=-1.0).sort(
        dim=1,
        descending=True,
        stable=True,  # ties by class
    )
    best, order = best[:, : config.max_detections], order[:, : config.max_detections]  # [N, D]
    found = best >= 0
    found_boxes = rows(F.pad(kept_boxes, (0, 0, 0, short)), order)
    return PaddedDetections(
        torch.where(found[..., None], found_boxes, 0.0),
        torch.where(found, best, 0.0),
        torch.where(found, order // most, -1),
        found.sum(1),
    )


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
    """Region features → class logits, background first, and four deltas per class; initialised as Fast R-CNN's."""

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

    @property
    def resolution(self) -> int:
        """Cells per side of a pooled region."""
        return self.config.resolution // 2 if self.config.pool == "crop" else self.config.resolution

    def pool(self, features: Sequence[Tensor], boxes: Tensor, height: int, width: int) -> Tensor:
        """``boxes`` [N, P, 4] out of the first levels of ``features`` (per level [N, C, H, W]): [N * P, C, S, S].

        ``height`` and ``width`` are those of the pixels.
        """
        c = self.config
        if c.pool == "crop":
            return crop_and_pool(features[0], boxes, height, width, c.resolution)
        levels = list(features[: len(self.scales)])
        image = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
        rois = torch.cat([image[:, None, None].expand(-1, boxes.shape[1], 1), boxes], 2).flatten(0, 1)  # [N * P, 5]
        if c.pool == "max":
            return ops.roi_pool(levels[0], rois, c.resolution, self.scales[0])
        return ops.roi_align_levels(levels, rois, c.resolution, self.scales, c.sampling_ratio, c.aligned)

    def forward(self, features: Sequence[Tensor], boxes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Class logits [N, P, C + 1] and deltas [N, P, 4 C] (or [N, P, 4]) of ``boxes`` [N, P, 4]."""
        logits, deltas = self.predictor(self.head(self.pool(features, boxes, height, width)))
        return logits.unflatten(0, boxes.shape[:2]), deltas.unflatten(0, boxes.shape[:2])

    def detect(
        self, logits: Tensor, deltas: Tensor, proposals: Tensor, counts: Tensor, sizes: Tensor
    ) -> PaddedDetections:
        """Class scores above the threshold, boxes refined and clipped, overlaps dropped per class, the best kept."""
        c = self.config
        if c.clip_last:
            return suppress_then_clip(float32(logits), float32(deltas), proposals, counts, sizes, c)
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
