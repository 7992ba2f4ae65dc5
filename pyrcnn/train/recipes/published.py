"""The published recipes: schedules, batches, augmentation and optimizers as their authors used them.

Sources: the pipeline configurations of TensorFlow's object detection zoo (CenterNet, Faster R-CNN 640 to 1333), Ren et
al. 2015 and py-faster-rcnn (VGG-16), torchvision's references, detectron2's model zoo and its new baselines.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...data import (
    ColorJitterTF,
    HorizontalFlip,
    LargeScaleJitter,
    PatchGaussian,
    RandomCenterCrop,
    RandomCropTF,
    RandomPad,
    ShortSide,
)
from ..config import TrainConfig
from .base import Recipe

COCO = 118_287  # images of COCO train2017
COCO_WITH_OBJECTS = 117_266  # those with objects, which torchvision and detectron2 train on
VOC_2007 = 5_011  # images of Pascal VOC 2007 trainval

# ---- CenterNet of the TensorFlow zoo ---------------------------------------------------------------------------------

_CROP_512 = (HorizontalFlip(), RandomCropTF(), ColorJitterTF(), RandomPad())
_CROP_1024 = (HorizontalFlip(), RandomCenterCrop(), ColorJitterTF())
_MOBILENET = (HorizontalFlip(), PatchGaussian(), RandomCropTF(), ColorJitterTF(), RandomPad())

# Shared by all eleven: no weight decay, no clipping, no average of the weights.
_zoo = TrainConfig(
    optimizer="adam", adam_epsilon=1e-7, learning_rate=1e-3, weight_decay=0.0, batch_size=128, clip_norm=0.0,
    augment=_CROP_512, group_by_aspect=False, workers=8, evaluate_every=10, checkpoint_minutes=15,
)  # fmt: skip
_manual = replace(
    _zoo, steps=140_000, schedule="steps", milestones=(90_000 / 140_000, 120_000 / 140_000), warmup=0.0
)  # fmt: skip
_cosine_250 = replace(_zoo, steps=250_000, warmup=5_000 / 250_000, warmup_from=0.25)
_cosine_50 = replace(_zoo, steps=50_000, warmup=5_000 / 50_000, warmup_from=0.25, augment=_CROP_1024)
_mobilenet = replace(
    _zoo, steps=300_000, learning_rate=5e-3, adam_epsilon=1e-8, warmup=5_000 / 300_000, warmup_from=0.02,
    augment=_MOBILENET,
)  # fmt: skip


def _centernet(config: TrainConfig, start: str, *presets: str, hardware: str = "TPU-8") -> Recipe:
    names = tuple(f"centernet_{name}" for name in presets)
    rounded = "colours are rounded to whole numbers after each transform"
    return Recipe(config, f"TensorFlow zoo, from {start}", names, COCO, hardware, departs=rounded)


_CENTERNET = {
    "centernet_hourglass_512": _centernet(_manual, "ExtremeNet", "hg104_512"),
    "centernet_hourglass_512_kpts": _centernet(_cosine_250, "ExtremeNet", "hg104_512_kpts", hardware="TPU-32"),
    "centernet_hourglass_1024": _centernet(_cosine_50, "ExtremeNet", "hg104_1024", hardware="TPU-32"),
    "centernet_hourglass_1024_kpts": _centernet(
        replace(_cosine_250, augment=_CROP_1024), "ExtremeNet", "hg104_1024_kpts", hardware="TPU-32"
    ),
    "centernet_resnet_v1": _centernet(_manual, "ImageNet", "resnet50_v1_fpn_512", "resnet101_v1_fpn_512"),
    "centernet_resnet_v1_kpts": _centernet(_cosine_250, "ImageNet", "resnet50_v1_fpn_512_kpts"),
    "centernet_resnet_v2": _centernet(_cosine_250, "ImageNet", "resnet50_v2_512", "resnet50_v2_512_kpts"),
    "centernet_mobilenet": _centernet(_mobilenet, "ImageNet", "mobilenet_v2_fpn_512"),
    "centernet_mobilenet_kpts": _centernet(
        replace(_mobilenet, batch_size=512), "ImageNet", "mobilenet_v2_fpn_512_kpts"
    ),
}

# ---- Faster R-CNN ----------------------------------------------------------------------------------------------------

# The TensorFlow zoo's. A warmup_from of 0 stands for one step's share, so 1e-9 is a warmup from 0.
_tf_640 = TrainConfig(
    steps=25_000, optimizer="sgd", learning_rate=0.04, weight_decay=0.0, batch_size=64, warmup=2_000 / 25_000,
    warmup_from=0.013333 / 0.04, clip_norm=0.0, group_by_aspect=False, workers=8, evaluate_every=2,
    checkpoint_minutes=15,
)  # fmt: skip
_tf_1024 = replace(
    _tf_640, steps=100_000, warmup=2_000 / 100_000,
    augment=(HorizontalFlip(), ColorJitterTF(brightness=0.0), RandomCenterCrop()),
)  # fmt: skip
_tf_800 = replace(
    _tf_1024, steps=200_000, learning_rate=0.01, batch_size=16, warmup=5_000 / 200_000, warmup_from=1e-9,
    clip_norm=10.0,
)  # fmt: skip

# The paper's VGG-16: one image per batch; the loss of two images is one step (py-faster-rcnn's iter_size).
_vgg16 = TrainConfig(
    steps=70_000, optimizer="sgd", learning_rate=1e-3, weight_decay=5e-4, batch_size=1, accumulate=2, schedule="steps",
    milestones=(50_000 / 70_000,), warmup=0.0, clip_norm=0.0, workers=4, evaluate_every=2, checkpoint_minutes=15,
)  # fmt: skip
_vgg16_rpn = replace(_vgg16, steps=80_000, accumulate=1, milestones=(60_000 / 80_000,))
_vgg16_detector = replace(_vgg16, steps=40_000, accumulate=1, batch_size=2, milestones=(30_000 / 40_000,))

_torchvision = TrainConfig(
    epochs=26, optimizer="sgd", learning_rate=0.02, weight_decay=1e-4, batch_size=16, schedule="steps",
    milestones=(16 / 26, 22 / 26), warmup=1_000 / (26 * (COCO_WITH_OBJECTS // 16)), warmup_from=1e-3, clip_norm=0.0,
    workers=8, evaluate_every=2, checkpoint_minutes=15,
)  # fmt: skip
_detectron2_1x = replace(
    _torchvision, steps=90_000, milestones=(60_000 / 90_000, 80_000 / 90_000), warmup=1_000 / 90_000,
    augment=(ShortSide(), HorizontalFlip()),
)  # fmt: skip
_detectron2_3x = replace(
    _detectron2_1x, steps=270_000, milestones=(210_000 / 270_000, 250_000 / 270_000), warmup=1_000 / 270_000
)
_lsj = replace(
    _torchvision, steps=184_375, learning_rate=0.1, weight_decay=4e-5, batch_size=64,
    milestones=(163_889 / 184_375, 177_546 / 184_375), warmup=500 / 184_375, warmup_from=0.067,
    augment=(HorizontalFlip(), LargeScaleJitter()), group_by_aspect=False,
)  # fmt: skip
_FROZEN_2: dict[str, Any] = {"trainable_layers": 3}  # the stem and the first stage keep ImageNet's weights
_detectron2_presets = ("faster_rcnn_resnet50_fpn_detectron2", "faster_rcnn_resnet50_c4_detectron2")

_FASTER_RCNN = {
    "faster_rcnn_resnet50_v1_640": Recipe(
        _tf_640, "TensorFlow zoo, from ImageNet", ("faster_rcnn_resnet50_v1_640",), COCO, "TPU-8"
    ),
    "faster_rcnn_resnet50_v1_1024": Recipe(
        _tf_1024, "TensorFlow zoo at 1024 pixels, from ImageNet", ("faster_rcnn_resnet50_v1_640",), COCO, "TPU-8",
        {"max_size": 1024}, departs="the zoo stretches images to a square",
    ),
    "faster_rcnn_resnet50_v1_800x1333": Recipe(
        _tf_800, "TensorFlow zoo at 800 to 1333 pixels, from ImageNet", ("faster_rcnn_resnet50_v1_640",), COCO, "GPU-8",
        {"resize": "torchvision", "min_size": 800, "max_size": 1333, "roi": {"max_detections": 100}},
        departs="the zoo predicts a box per class, and clips each gradient by itself",
    ),
    "paper_vgg16": Recipe(
        _vgg16, "Ren et al. 2015, approximate joint training, VOC 2007", ("faster_rcnn_vgg16",), VOC_2007, "one GPU",
        departs="in Caffe, biases learn at twice the rate",
    ),
    "paper_vgg16_alternating": Recipe(
        _vgg16_rpn, "Ren et al. 2015, alternating training in four steps, VOC 2007", ("faster_rcnn_vgg16",), VOC_2007,
        "one GPU", {"roi": {"samples": 64}}, (_vgg16_rpn, _vgg16_detector, _vgg16_rpn, _vgg16_detector),
        departs="in Caffe, biases learn at twice the rate; background RoIs overlap an object by 0.1 or more",
    ),
    "torchvision_26_epochs": Recipe(
        _torchvision, "torchvision's references, from ImageNet", ("faster_rcnn_resnet50_fpn",),
        COCO_WITH_OBJECTS, "8 GPUs", _FROZEN_2,
    ),
    "detectron2_1x": Recipe(
        _detectron2_1x, "detectron2's 1x schedule, from MSRA's ImageNet", _detectron2_presets, COCO_WITH_OBJECTS,
        "8 GPUs", _FROZEN_2, departs="detectron2 decays biases too",
    ),
    "detectron2_3x": Recipe(
        _detectron2_3x, "detectron2's 3x schedule, from MSRA's ImageNet", _detectron2_presets, COCO_WITH_OBJECTS,
        "8 GPUs", _FROZEN_2, departs="detectron2 decays biases too",
    ),
    "lsj_100_epochs": Recipe(
        _lsj, "detectron2's 100 epochs with large-scale jitter", ("faster_rcnn_resnet50_fpn_v2",), COCO_WITH_OBJECTS,
        "64 GPUs", departs="the published model is a Mask R-CNN",
    ),
}  # fmt: skip

PUBLISHED: dict[str, Recipe] = _CENTERNET | _FASTER_RCNN
