"""Faster R-CNN (Ren, He, Girshick, Sun 2015): image → features → proposals → pooled regions → classes and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import require
from ...structures import Targets
from ..backbones import BACKBONES
from ..backbones.pyramid import Plain, Pyramid, freeze_norms
from ..backbones.resnet import ResNetStyle, stage
from ..detector import Detector
from ..labels import check_truth
from ..layers import freeze_lower
from ..outputs import PaddedDetections
from ..preprocess import fit_sides, fit_square
from .roi_head import RoIConfig, RoIHead
from .rpn import RPN, RPNConfig
from .targets import PaddedTargets, pad_targets, roi_losses, sample_proposals


@dataclass(frozen=True)
class FasterRCNNConfig:
    """Everything that defines a Faster R-CNN; plain values only, so that a weights file can carry it."""

    backbone: str = "resnet50"  # a name of BACKBONES
    num_classes: int = 90  # without background
    norm: str = "frozen"  # the backbone's batch norms: "frozen" (statistics and scales fixed) or "batch"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    stride_in_1x1: bool = False  # ResNet: MSRA's stride placement instead of torchvision's
    same_pool: bool = False  # ResNet: the stem pools with TensorFlow's padding
    top: bool = True  # MobileNetV2: with its last 1×1 convolution, 320 to 1280 channels
    fpn_channels: int = 256  # 0: no pyramid, the last feature map alone
    fpn_norm: bool = False  # batch norm in the pyramid
    fpn_extra: bool = True  # one coarser level, for proposals only, by subsampling the last
    min_size: int = 800  # pictures' shorter side in network pixels …
    max_size: int = 1333  # … unless the longer one would exceed this
    resize: str = "torchvision"  # a name of preprocess.RESIZES, or "square": fitted into max_size × max_size
    size_divisor: int = 32  # pictures are padded until their sides are multiples of this
    normalization: str = "imagenet"  # a name of preprocess.NORMALIZATIONS
    trainable_layers: int | None = None  # train only this many of the backbone's upper stages
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi: RoIConfig = field(default_factory=RoIConfig)


def make_backbone(config: FasterRCNNConfig) -> tuple[Any, nn.Module | None]:
    """The backbone with its pyramid, and ResNet's last stage apart where that is the RoI head."""
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
    """Ren et al., 2015: a network proposes boxes, a second one looks at each and says what it is.

    Modules: ``backbone`` (``backbone.body``, ``backbone.fpn``), ``rpn.head``, ``roi.head``, ``roi.predictor``; inside
    them torchvision's parameter names.
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
        """Height and width of the network input for an image whose longer side is limited, in landscape format."""
        c = self.config
        if c.resize == "square":
            return c.max_size, c.max_size
        multiple = self.size_multiple()
        return -(-c.min_size // multiple) * multiple, -(-c.max_size // multiple) * multiple

    def size_multiple(self) -> int:
        """The configuration's ``size_divisor``."""
        return self.config.size_divisor

    def example_shapes(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """One image, its finest level, and the regions of all its proposals."""
        channels, stride = self.backbone.channels[0], self.backbone.strides[0]
        regions = self.config.rpn.after_nms[1], channels, self.roi.resolution, self.roi.resolution
        return {
            "backbone": (1, 3, height, width),
            "proposals": (1, channels, -(-height // stride), -(-width // stride)),
            "regions": regions,
        }

    def resize_and_batch(self, images: list[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Images [3, H, W] → network input; see :meth:`preprocess`."""
        c = self.config
        if c.resize == "square":
            return fit_square(images, c.max_size, c.normalization, dtype)
        return fit_sides(images, c.min_size, c.max_size, c.resize, c.normalization, c.size_divisor, dtype)

    def predict_padded(self, pixels: Tensor, sizes: Tensor) -> PaddedDetections:
        """Fixed shapes, no host synchronisation: the part that compiles, exports and is captured as one CUDA graph.

        ``pixels`` [N, 3, H, W] normalised; ``sizes`` [N, 2] (h, w) of the pictures in it.
        """
        height, width = pixels.shape[-2:]
        features = self.backbone(pixels)  # per level [N, C, H, W]
        proposals, _, counts = self.rpn.propose(features, sizes, height, width)  # [N, P, 4], [N, P], [N]
        logits, deltas = self.roi(features, proposals, height, width)  # [N, P, classes + 1], [N, P, 4 * classes]
        return self.roi.detect(logits, deltas, proposals, counts, sizes)

    def proposals(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first stage alone: boxes [N, P, 4], scores [N, P], counts [N]."""
        return self.rpn.propose(self.backbone(pixels), sizes, *pixels.shape[-2:])

    def batch_loss(
        self, pixels: Tensor, sizes: Tensor, scales: Tensor, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """:meth:`loss` of what :meth:`preprocess` returned."""
        check_truth(targets, self.config.num_classes)
        return self.padded_loss(pixels, sizes, pad_targets(targets, scales))

    def padded_loss(self, pixels: Tensor, sizes: Tensor, truth: PaddedTargets) -> dict[str, Tensor]:
        """:meth:`loss` of fixed shapes, without host synchronisation; ``truth`` in pixels of the network input."""
        self.check_trainable()
        height, width = pixels.shape[-2:]
        features = self.backbone(pixels)
        rpn, proposals, counts = self.rpn.loss(features, sizes, height, width, truth)
        with torch.no_grad():
            sample = sample_proposals(proposals, counts, truth, self.config.roi)
        logits, deltas = self.roi(features, sample.boxes, height, width)
        return rpn | roi_losses(logits, deltas, sample, self.config.roi)
