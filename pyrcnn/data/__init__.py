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
    HorizontalFlip,
    Pad,
    RandomCrop,
    Resize,
    ScaleJitter,
    Transform,
    VerticalFlip,
    flip_pairs,
)
from .wrappers import as_coco

__all__ = [
    "BatchOrder",
    "CocoDataset",
    "ColorJitter",
    "HorizontalFlip",
    "Pad",
    "Problem",
    "RandomCrop",
    "Report",
    "Resize",
    "ScaleJitter",
    "Transform",
    "VerticalFlip",
    "as_coco",
    "aspect_groups",
    "batches",
    "coco",
    "collate",
    "csv",
    "flip_pairs",
    "open",
    "voc",
    "yolo",
]
