"""The presets: name → configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import nn

from ..errors import require
from .centernet import CenterNet, CenterNetConfig
from .faster_rcnn import FasterRCNN, FasterRCNNConfig, RoIConfig, RPNConfig

Config = CenterNetConfig | FasterRCNNConfig  # of any family
FAMILIES: dict[type, type[nn.Module]] = {  # configuration → the detector that it describes
    CenterNetConfig: CenterNet,
    FasterRCNNConfig: FasterRCNN,
}

# CenterNet (Zhou et al. 2019) as in the TF2 model zoo; the defaults of CenterNetConfig are what they share
_hourglass = CenterNetConfig(
    backbone="hourglass104",
    normalization="extremenet",
    neck="none",
    separable=False,
    norm_eps=1e-5,
    norm_momentum=0.9,
)
_resnet_fpn = CenterNetConfig(
    backbone="resnet50_v1",
    normalization="caffe",
    neck_laterals=(256, 128, 64),
    neck_widths=(128, 64, 64),
    separable=False,
    norm_eps=1.001e-5,
    norm_momentum=0.01,
)
_resnet_v2 = CenterNetConfig(
    backbone="resnet50_v2",
    neck="deconv",
    neck_widths=(256, 128, 64),
    separable=False,
    norm_eps=1.001e-5,
    norm_momentum=0.01,
)
_mobilenet = CenterNetConfig(max_detections=20)


def _with_people(config: CenterNetConfig) -> CenterNetConfig:
    return replace(config, joints=17, clip_keypoints=True)


# The "C4" detectors: one level with 15 anchors per cell; ResNet's last stage is the RoI head
_c4 = FasterRCNNConfig(
    fpn_channels=0,
    rpn=RPNConfig(sizes=((32, 64, 128, 256, 512),), before_nms=(12000, 6000)),
    roi=RoIConfig(resolution=14, head="conv5"),
)


NO_AREA = 1e-9  # a min_size, in pixels, that drops only boxes without area


def _detectron2(config: FasterRCNNConfig) -> FasterRCNNConfig:
    """``config`` with detectron2's preprocessing, stride placement, anchors, RoIAlign and losses."""
    return replace(
        config,
        num_classes=80,
        stride_in_1x1=True,
        size_divisor=32 if config.fpn_channels else 1,
        resize="detectron2",
        normalization="detectron2",
        rpn=replace(config.rpn, anchors="detectron2", min_size=NO_AREA, beta=0),
        roi=replace(config.roi, aligned=True, sampling_ratio=0, min_size=NO_AREA, beta=0),
    )


PRESETS: dict[str, Config] = {  # name → configuration
    "centernet_hg104_512": _hourglass,
    "centernet_hg104_512_kpts": _with_people(_hourglass),
    "centernet_hg104_1024": replace(_hourglass, input_size=1024),
    "centernet_hg104_1024_kpts": _with_people(replace(_hourglass, input_size=1024)),
    "centernet_resnet50_v1_fpn_512": _resnet_fpn,
    "centernet_resnet50_v1_fpn_512_kpts": _with_people(_resnet_fpn),
    "centernet_resnet101_v1_fpn_512": replace(_resnet_fpn, backbone="resnet101_v1"),
    "centernet_resnet50_v2_512": _resnet_v2,
    "centernet_resnet50_v2_512_kpts": _with_people(_resnet_v2),
    "centernet_mobilenet_v2_fpn_512": _mobilenet,
    "centernet_mobilenet_v2_fpn_512_kpts": replace(_mobilenet, num_classes=1, joints=17),
    # Faster R-CNN with torchvision's numerics
    "faster_rcnn_mobilenet_v2_fpn": FasterRCNNConfig(backbone="mobilenet_v2", norm="batch"),
    "faster_rcnn_resnet50_fpn": FasterRCNNConfig(),
    "faster_rcnn_resnet50_fpn_v2": FasterRCNNConfig(
        norm="batch",
        fpn_norm=True,
        rpn=RPNConfig(convs=2),
        roi=RoIConfig(convs=4, fcs=1),
    ),
    "faster_rcnn_resnet101_fpn": FasterRCNNConfig(backbone="resnet101"),
    "faster_rcnn_resnet50_c4": _c4,
    "faster_rcnn_resnet101_c4": replace(_c4, backbone="resnet101"),
    "faster_rcnn_resnet50_fpn_detectron2": _detectron2(FasterRCNNConfig(rpn=RPNConfig(after_nms=(1000, 1000)))),
    "faster_rcnn_resnet50_c4_detectron2": _detectron2(_c4),
    # the TF2 model zoo's
    "faster_rcnn_resnet50_v1_640": FasterRCNNConfig(
        norm="batch",
        norm_momentum=0.003,
        stride_in_1x1=True,
        same_pool=True,
        fpn_channels=0,
        max_size=640,
        resize="square",
        normalization="zoo_rgb",
        rpn=RPNConfig(
            sizes=((64, 128, 256, 512),),
            anchors="tensorflow",
            clip_anchors=True,
            channels=512,
            activation="relu6",
            weights=(10, 10, 5, 5),
            clip=1e9,
            after_nms=(300, 300),
            beta=1.0,
            box_weight=2.0,
        ),
        roi=RoIConfig(
            pool="crop",
            resolution=14,
            head="conv5",
            class_agnostic=True,
            clip=1e9,
            score_threshold=0.0,
            nms_threshold=0.6,
            max_detections=300,
            max_per_class=100,
            clip_last=True,
            min_size=0,
            samples=64,
            beta=1.0,
            box_weight=2.0,
        ),
    ),
    # the paper (Ren et al. 2015), 07+12 training on Pascal VOC
    "faster_rcnn_vgg16": FasterRCNNConfig(
        backbone="vgg16",
        num_classes=20,
        fpn_channels=0,
        min_size=600,
        max_size=1000,
        resize="paper",
        normalization="paper",
        trainable_layers=3,
        rpn=RPNConfig(
            sizes=((128, 256, 512),),
            anchors="paper",
            before_nms=(12000, 6000),
            after_nms=(2000, 300),
            min_size=16,
            drop_outside=True,
        ),
        roi=RoIConfig(pool="max", width=4096, dropout=0.5, nms_threshold=0.3, samples=128, beta=1.0),
    ),
}


def changed(config: Any, **changes: Any) -> Any:
    """``config`` with some fields replaced.

    Args:
        config: a configuration; it is left unchanged.
        changes: the new values by field. A nested configuration takes a dict of its own changes. Lists become tuples,
            so that values read from JSON compare equal.

    Raises:
        pyrcnn.InputError: for the name of no field.

    Example:
        >>> changed(PRESETS["faster_rcnn_resnet50_fpn"], num_classes=2, roi={"max_detections": 10}).roi.max_detections
        10
    """
    known = {field.name for field in fields(config)}
    for name, value in changes.items():
        require(name in known, f"{name} must be a field of {type(config).__name__}: one of {', '.join(sorted(known))}")
        if is_dataclass(getattr(config, name)) and isinstance(value, dict):
            changes[name] = changed(getattr(config, name), **value)
        elif isinstance(value, list):
            changes[name] = _tuples(value)
    return replace(config, **changes)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def from_config(config: Config) -> nn.Module:
    """The detector that ``config`` describes, with random weights.

    Args:
        config: a configuration, for example a preset with changes (:func:`changed`).

    Raises:
        pyrcnn.InputError: for values that no model has.

    Example:
        >>> type(from_config(CenterNetConfig(num_classes=2))).__name__
        'CenterNet'
    """
    return FAMILIES[type(config)](config)


def differing(config: Any, other: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each field in which two configurations of one class differ: its dotted name, and both values."""
    for field in fields(config):
        mine, theirs = getattr(config, field.name), getattr(other, field.name)
        if is_dataclass(mine) and type(mine) is type(theirs):
            yield from differing(mine, theirs, f"{prefix}{field.name}.")
        elif mine != theirs:
            yield prefix + field.name, mine, theirs
