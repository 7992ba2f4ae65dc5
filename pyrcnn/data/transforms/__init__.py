"""Augmentation: transforms that change an image and its :class:`~pyrcnn.Targets` together.

A transform is a frozen dataclass, called as ``transform(image, targets, generator)`` with a [3, H, W] uint8 image. It
returns the new (image, targets) and does not change its input. All random numbers come from ``generator``, so a seed
gives the same images in any process. A box that is cut by the image's border keeps its visible part if that is at least
``min_visible`` of its area; otherwise it is removed. Keypoints outside the image become unlabelled.

>>> from pyrcnn import Targets
>>> image, targets = torch.zeros(3, 4, 8, dtype=torch.uint8), Targets(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([0]))
>>> image, targets = HorizontalFlip(probability=1.0)(image, targets, torch.Generator())
>>> targets.boxes
tensor([[6., 0., 8., 2.]])
"""

from .adapters import from_albumentations, from_torchvision
from .base import Pair, Transform, apply, uniform
from .colors import ColorJitter, ColorJitterTF, LightingNoise, PatchGaussian
from .crops import RandomCenterCrop, RandomCrop, RandomCropTF
from .flips import COCO_FLIP_PAIRS, HorizontalFlip, VerticalFlip, flip_pairs
from .mixing import MixUp, Mosaic
from .parsing import parse_transforms
from .sizes import LargeScaleJitter, Pad, RandomPad, Resize, ScaleJitter, ShortSide

__all__ = [
    "COCO_FLIP_PAIRS",
    "ColorJitter",
    "ColorJitterTF",
    "HorizontalFlip",
    "LargeScaleJitter",
    "LightingNoise",
    "MixUp",
    "Mosaic",
    "Pad",
    "Pair",
    "PatchGaussian",
    "RandomCenterCrop",
    "RandomCrop",
    "RandomCropTF",
    "RandomPad",
    "Resize",
    "ScaleJitter",
    "ShortSide",
    "Transform",
    "VerticalFlip",
    "apply",
    "flip_pairs",
    "from_albumentations",
    "from_torchvision",
    "parse_transforms",
    "uniform",
]
