"""Backbones trained on ImageNet, from torchvision's and detectron2's classifiers: where training a detector begins."""

from __future__ import annotations

import os

from torch import nn

from ..errors import InputError, require
from ..models import FasterRCNN
from ..models.backbones import MobileNetV2
from . import detectron2, pickles, torchvision
from .report import Report, assign

LATER = ("roi.head.layer4.", "roi.head.fc6.", "roi.head.fc7.")  # heads that begin as a classifier's last stages


def load_backbone(model: nn.Module, file: str | os.PathLike[str]) -> Report:
    """Fill ``model.backbone`` from a classifier: torchvision's ``.pth`` of ResNet-50, ResNet-101, VGG-16 or MobileNetV2
    (``resnet50-*.pth``), detectron2's ``.pkl`` of a ResNet (``R-50.pkl``).

    The rest of the model keeps its values and is reported as missing; where the RoI head is ResNet's last stage or
    VGG's fully connected layers, it is filled as well. torchvision's weights expect ``normalization="imagenet"`` and
    ``norm_eps=1e-5``, its MobileNetV2 also ``padding="symmetric"`` where the model's configuration lets one choose; a
    note in the report tells what differs.
    """
    path = os.fspath(file)
    require(os.path.isfile(path), f"file: no such file: {path}")
    require(pickles.matches(path), f"file: {path} is damaged or no .pth or .pkl file")
    entries = pickles.read(path)
    reader = next((r for r in (detectron2, torchvision) if r.matches(entries) and r.is_imagenet(entries)), None)
    require(reader is not None, f"file: {path} holds no classifier of torchvision or detectron2")
    state = reader.read(model, entries)  # type: ignore[union-attr]
    trunk = next((f"{name}." for name, m in model.named_modules() if isinstance(m, MobileNetV2)), "backbone.body.")
    if not isinstance(model, FasterRCNN) and trunk == "backbone.body.":
        raise InputError(f"model: {type(model).__name__} has no backbone with torchvision's layers")
    only = (trunk, *(part for part in LATER if any(name.startswith(part) for name in state)))
    return assign(model, state, path, only=only)
