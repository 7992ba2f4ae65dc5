"""The configurations of Faster R-CNN: plain values only, so that a weights file can carry them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RPNConfig:
    """The region proposal network. Pairs are (training, inference); lengths are in pixels of the network input."""

    sizes: tuple[tuple[float, ...], ...] = (
        (32,),
        (64,),
        (128,),
        (256,),
        (512,),
    )  # per level, square roots of the anchors' areas
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width; "tensorflow" anchors: width / height
    anchors: str = "torchvision"  # a name of anchors.ANCHORS
    channels: int = 0  # of the 3×3 convolutions; 0: as many as the features have
    convs: int = 1  # 3×3 convolutions before the two outputs
    activation: str = "relu"  # after each convolution: "relu" or "relu6"
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)  # what dx, dy, dw, dh are divided by
    clip: float = math.log(1000 / 16)  # largest dw, dh
    before_nms: tuple[int, int] = (2000, 1000)  # proposals per level that enter suppression
    after_nms: tuple[int, int] = (2000, 1000)  # proposals of all levels that remain
    nms_threshold: float = 0.7  # IoU above which the lower-scored proposal of a level is suppressed
    min_size: float = 1e-3  # proposals with a shorter side are dropped
    foreground: float = 0.7  # IoU from which an anchor is an object
    background: float = 0.3  # IoU below which it is background
    drop_outside: bool = False  # anchors that leave the image are no training samples
    clip_anchors: bool = False  # clip anchors to the network input and suppress before boxes are clipped (TensorFlow)
    samples: int = 256  # training samples per image
    positives: float = 0.5  # the largest share of objects among them
    beta: float = 1 / 9  # where smooth L1 turns linear; 0: L1
    box_weight: float = 1.0  # of the box loss


@dataclass(frozen=True)
class RoIConfig:
    """The RoI head; lengths are in pixels of the network input."""

    # "align": RoIAlign over the levels; "max": RoIPool over the levels (Girshick 2015); "crop": TensorFlow's crop and
    # 2×2 maximum, without a pyramid
    pool: str = "align"
    resolution: int = 7  # cells per side of a pooled region; "crop": before the maximum
    sampling_ratio: int = 2  # samples per cell and axis; 0: one per feature cell
    aligned: bool = False  # RoIAlign with the half-cell shift (detectron2)
    head: str = "mlp"  # "mlp", or "conv5": the ResNet's last stage
    convs: int = 0  # 3×3 convolutions with batch norm before the mlp
    fcs: int = 2  # fully connected layers
    width: int = 1024  # outputs of each fully connected layer
    dropout: float = 0.0  # share of the outputs of each fully connected layer that training drops
    class_agnostic: bool = False  # one box per region instead of one per class
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)  # what dx, dy, dw, dh are divided by
    clip: float = math.log(1000 / 16)  # largest dw, dh
    score_threshold: float = 0.05  # scores of detections exceed this
    nms_threshold: float = 0.5  # IoU above which the lower-scored box of a class is suppressed
    max_detections: int = 100  # of an image
    max_per_class: int | None = None  # detections of one class; None: no limit
    clip_last: bool = False  # suppress before boxes are clipped (TensorFlow)
    min_size: float = 1e-2  # detections with a shorter side are dropped
    foreground: float = 0.5  # IoU from which a proposal is an object
    background: float = 0.5  # IoU below which it is background
    samples: int = 512  # training samples per image
    positives: float = 0.25  # the largest share of objects among them
    beta: float = 1 / 9  # where smooth L1 turns linear; 0: L1
    box_weight: float = 1.0  # of the box loss


@dataclass(frozen=True)
class FasterRCNNConfig:
    """Everything that defines a Faster R-CNN.

    Example:
        >>> FasterRCNNConfig(num_classes=3, roi=RoIConfig(score_threshold=0.3)).roi.max_detections
        100
    """

    backbone: str = "resnet50"  # a name of BACKBONES
    num_classes: int = 90  # without background
    norm: str = "frozen"  # the backbone's batch norms: "frozen" (statistics and scales fixed) or "batch"
    norm_eps: float = 1e-5  # of the batch norms: added to the variance
    norm_momentum: float = 0.1  # of the batch norms: the weight of a new batch in their statistics
    stride_in_1x1: bool = False  # ResNet: MSRA's stride placement instead of torchvision's
    same_pool: bool = False  # ResNet: the stem pools with TensorFlow's padding
    top: bool = True  # MobileNetV2: with its last 1×1 convolution, 320 to 1280 channels
    fpn_channels: int = 256  # 0: no pyramid, only the last feature map
    fpn_norm: bool = False  # batch norm in the pyramid
    fpn_extra: bool = True  # one coarser level, for proposals only, by subsampling the last
    min_size: int = 800  # images are resized to this shorter side, in pixels, …
    max_size: int = 1333  # … or to this longer side if it would be exceeded
    resize: str = "torchvision"  # a name of preprocess.RESIZES, or "square": resized into max_size × max_size
    size_divisor: int = 32  # images are padded until their sides are multiples of this
    normalization: str = "imagenet"  # a name of preprocess.NORMALIZATIONS
    trainable_layers: int | None = None  # how many of the backbone's upper stages train; None: all
    rpn: RPNConfig = field(default_factory=RPNConfig)  # the region proposal network
    roi: RoIConfig = field(default_factory=RoIConfig)  # the RoI head
