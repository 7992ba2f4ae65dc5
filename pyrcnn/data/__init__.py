"""Data sets, augmentation and batches."""

from .coco import CocoDataset, coco
from .formats.sources import open
from .formats.tables import csv
from .formats.voc import voc
from .formats.yolo import yolo
from .loader import BatchOrder, aspect_groups, batches, collate
from .report import Problem, Report
from .transforms import (
    ColorJitter,
    ColorJitterTF,
    HorizontalFlip,
    LargeScaleJitter,
    LightingNoise,
    MixUp,
    Mosaic,
    Pad,
    PatchGaussian,
    RandomCenterCrop,
    RandomCrop,
    RandomCropTF,
    RandomPad,
    Resize,
    ScaleJitter,
    ShortSide,
    Transform,
    VerticalFlip,
    flip_pairs,
    from_albumentations,
    from_torchvision,
    parse_transforms,
)
from .wrappers import as_coco

__all__ = [
    "BatchOrder",
    "CocoDataset",
    "ColorJitter",
    "ColorJitterTF",
    "HorizontalFlip",
    "LargeScaleJitter",
    "LightingNoise",
    "MixUp",
    "Mosaic",
    "Pad",
    "PatchGaussian",
    "Problem",
    "RandomCenterCrop",
    "RandomCrop",
    "RandomCropTF",
    "RandomPad",
    "Report",
    "Resize",
    "ScaleJitter",
    "ShortSide",
    "Transform",
    "VerticalFlip",
    "as_coco",
    "aspect_groups",
    "batches",
    "coco",
    "collate",
    "csv",
    "flip_pairs",
    "from_albumentations",
    "from_torchvision",
    "open",
    "parse_transforms",
    "voc",
    "yolo",
]
