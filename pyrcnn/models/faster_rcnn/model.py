"""Faster R-CNN (Ren, He, Girshick, Sun 2015): image → features → proposals → pooled regions → classes and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import require
from ...memory import upload
from ...structures import Targets
from ..backbones import BACKBONES
from ..backbones.pyramid import Plain, Pyramid, freeze_norms
from ..backbones.resnet import ResNetStyle, stage
from ..detector import Detector
from ..layers import freeze_lower
from ..outputs import PaddedDetections
from ..preprocess import Resizing, fit_sides, fit_square, padded_sides
from ..training import Term, Truth, mean_losses
from .config import FasterRCNNConfig
from .roi_head import RoIHead
from .rpn import RPN
from .targets import roi_losses, sample_proposals


def make_backbone(config: FasterRCNNConfig) -> tuple[Any, nn.Module | None]:
    """The backbone with its pyramid, and ResNet's last stage if that is the RoI head, else None."""
    require(config.backbone in BACKBONES, f"backbone must be one of {', '.join(BACKBONES)}, got {config.backbone!r}")
    require(config.norm in ("frozen", "batch"), f"norm must be frozen or batch, got {config.norm!r}")
    options: dict[str, Any] = {}
    conv5 = None
    if config.backbone.startswith("resnet"):
        style = ResNetStyle(config.stride_in_1x1, config.same_pool, config.norm_eps, config.norm_momentum)
        options = {"style": style}
        if config.roi.head == "conv5":
            options["taps"] = (3,)
            conv5 = stage(4, int(config.backbone.removeprefix("resnet")), style)
    elif config.backbone == "mobilenet_v2":
        options = {"padding": "symmetric", "norm_eps": config.norm_eps, "norm_momentum": config.norm_momentum,
                   "taps": (2, 5, 12), "top": config.top}  # fmt: skip
    body = BACKBONES[config.backbone](**options)
    if config.norm == "frozen":
        for module in (body, conv5):
            if module is not None:
                freeze_norms(module)
    if config.fpn_channels:
        return Pyramid(body, config.fpn_channels, config.fpn_norm, config.fpn_extra), conv5
    return Plain(body), conv5


class FasterRCNN(Detector):
    """Faster R-CNN (Ren et al. 2015): one network proposes boxes, a second one classifies and refines each.

    Modules: ``backbone`` (``backbone.body``, ``backbone.fpn``), ``rpn.head``, ``roi.head``, ``roi.predictor``; inside
    them torchvision's parameter names.

    Args:
        config: the configuration.

    Raises:
        pyrcnn.InputError: for values of the configuration that do not fit together.

    Example:
        >>> from pyrcnn import models
        >>> small = {"min_size": 64, "max_size": 64, "num_classes": 2}
        >>> model = models.build("faster_rcnn_mobilenet_v2_fpn", **small).eval()
        >>> len(model([torch.zeros(3, 48, 64, dtype=torch.uint8)]))
        1
    """

    config: FasterRCNNConfig
    PARTS: ClassVar[dict[str, tuple[str, ...]]] = {
        "backbone": ("backbone",),
        "proposals": ("rpn.head",),
        "regions": ("roi.head", "roi.predictor"),
    }

    def __init__(self, config: FasterRCNNConfig):
        super().__init__(config)
        self.backbone, conv5 = make_backbone(config)
        channels, strides = self.backbone.channels[-1], self.backbone.strides
        self.rpn = RPN(config.rpn, channels, strides)
        pooled = strides[:-1] if config.fpn_channels and config.fpn_extra else strides
        self.roi = RoIHead(config.roi, channels, pooled, config.num_classes, conv5)
        freeze_lower(self.backbone.stages, config.trainable_layers)

    def input_size(self) -> tuple[int, int]:
        """Height and width of the network input for the widest image that is resized by its shorter side."""
        c = self.config
        if c.resize == "square":
            return c.max_size, c.max_size
        multiple = self.size_multiple()
        return -(-c.min_size // multiple) * multiple, -(-c.max_size // multiple) * multiple

    def size_multiple(self) -> int:
        """``config.size_divisor``: preprocessing pads to its multiples; the network takes any size."""
        return self.config.size_divisor

    def class_outputs(self) -> dict[str, tuple[int, int]]:
        """Scores, after that of the background, and boxes, unless one box is for all classes."""
        boxes = {} if self.config.roi.class_agnostic else {"roi.predictor.bbox_pred": (0, 4)}
        return {"roi.predictor.cls_score": (1, 1), **boxes}

    def example_shapes(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """One image, its finest level, and regions of as many proposals as inference keeps."""
        channels, stride = self.backbone.channels[0], self.backbone.strides[0]
        regions = self.config.rpn.after_nms[1], channels, self.roi.resolution, self.roi.resolution
        return {
            "backbone": (1, 3, height, width),
            "proposals": (1, channels, -(-height // stride), -(-width // stride)),
            "regions": regions,
        }

    @property
    def _resize(self) -> str:
        return self.config.resize if self.resizes_in_training or not self.training else "none"

    def padded_size(self, images: Sequence[Tensor]) -> tuple[int, int]:
        """Height and width of the network input for these images [3, H, W]."""
        c = self.config
        if c.resize == "square":
            return c.max_size, c.max_size
        return padded_sides(images, c.min_size, c.max_size, self._resize, c.size_divisor)

    def resizing(self) -> Resizing:
        """As the configuration says."""
        c = self.config
        return Resizing(c.resize, c.min_size, c.max_size, c.size_divisor, c.normalization)

    def resize_and_batch(
        self, images: list[Tensor], dtype: torch.dtype, size: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Images [3, H, W] → network input; see :meth:`preprocess`."""
        c = self.config
        if c.resize == "square":
            return fit_square(images, c.max_size, c.normalization, dtype)
        return fit_sides(images, c.min_size, c.max_size, self._resize, c.normalization, c.size_divisor, dtype, size)

    def predict_padded(self, pixels: Tensor, sizes: Tensor) -> PaddedDetections:
        """Detections of fixed shapes, in pixels of the network input.

        This part compiles, exports and is captured as one CUDA graph, because the host never waits for the device.
        ``pixels`` [N, 3, H, W] are normalised; ``sizes`` [N, 2] are (h, w) of the unpadded images.
        """
        height, width = pixels.shape[-2:]
        features = self.backbone(pixels)  # per level [N, C, H, W]
        proposals, _, counts = self.rpn.propose(features, sizes, height, width)  # [N, K, 4], [N, K], [N]
        logits, deltas = self.roi(features, proposals, height, width)  # [N, K, C + 1], [N, K, 4C]
        return self.roi.detect(logits, deltas, proposals, counts, sizes)

    def proposals(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the region proposal network finds: boxes [N, K, 4], scores [N, K], counts [N]."""
        return self.rpn.propose(self.backbone(pixels), sizes, *pixels.shape[-2:])

    def loss_terms(self, pixels: Tensor, sizes: Tensor, scales: Tensor, truth: Truth) -> dict[str, Term]:
        """The losses of both stages; see :meth:`Detector.loss_terms`."""
        self.check_trainable()
        truth = truth.scaled(scales)
        height, width = pixels.shape[-2:]
        features = self.backbone(pixels)
        rpn, proposals, counts = self.rpn.loss(features, sizes, height, width, truth)
        with torch.no_grad():
            sample = sample_proposals(proposals, counts, truth, self.config.roi)
        logits, deltas = self.roi(features, sample.boxes, height, width)
        return rpn | roi_losses(logits, deltas, sample, self.config.roi)

    # ---- one stage alone, for alternating training (Ren et al. 2015, section 3.2) ------------------------------------

    def proposal_loss(self, images: Sequence[Any], targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The losses of the proposal network alone; the arguments are those of :meth:`loss`."""
        self.check_trainable()
        pixels, sizes, scales = self.preprocess(images)
        height, width = pixels.shape[-2:]
        truth = self._truth(targets, scales)
        return mean_losses(self.rpn.loss(self.backbone(pixels), sizes, height, width, truth)[0])

    def detection_loss(
        self, images: Sequence[Any], targets: Sequence[Targets], proposals: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The losses of the RoI head for given ``proposals``, per image [P, 4] in its own pixels (Fast R-CNN)."""
        self.check_trainable()
        pixels, _, scales = self.preprocess(images)
        height, width = pixels.shape[-2:]
        truth = self._truth(targets, scales)
        given = self._truth([Targets(p, torch.zeros(len(p), dtype=torch.int64)) for p in proposals], scales)
        with torch.no_grad():
            sample = sample_proposals(given.boxes, given.counts, truth, self.config.roi)
        logits, deltas = self.roi(self.backbone(pixels), sample.boxes, height, width)
        return mean_losses(roi_losses(logits, deltas, sample, self.config.roi))

    def _truth(self, targets: Sequence[Targets], scales: Tensor) -> Truth:
        return Truth(*(upload(t, scales.device) for t in self.pad_targets(targets))).scaled(scales)

    @torch.no_grad()
    def training_proposals(self, images: Sequence[Any]) -> list[Tensor]:
        """Per image, the proposals [P, 4] in its own pixels, as many as the RoI head learns from in training."""
        pixels, sizes, scales = self.preprocess(images)
        height, width = pixels.shape[-2:]
        maps = self.rpn.predict(self.backbone(pixels))
        boxes, _, counts = self.rpn.select(*maps, sizes, height, width, training=True)
        boxes = boxes / scales.flip(-1).repeat(1, 2)[:, None].to(boxes)
        return [image[:count] for image, count in zip(boxes, counts.tolist(), strict=True)]
