"""Fills backbones from ImageNet classifiers of torchvision and detectron2, to train detectors from."""

from __future__ import annotations

import os

from torch import nn

from ..errors import require
from .formats import detectron2, pickles, torchvision
from .report import Report, assign

LATER = ("roi.head.layer4.", "roi.head.fc6.", "roi.head.fc7.")  # heads that start from a classifier's last stages


def load_backbone(model: nn.Module, file: str | os.PathLike[str]) -> Report:
    """Fill ``model.backbone`` from a classifier: torchvision's ``.pth`` of ResNet-50, ResNet-101, VGG-16 or MobileNetV2
    (``resnet50-*.pth``), detectron2's ``.pkl`` of a ResNet (``R-50.pkl``).

    The rest of the model keeps its values and is reported as missing. An RoI head that is ResNet's last stage or VGG's
    fully connected layers is filled too. torchvision's weights expect ``normalization="imagenet"`` and
    ``norm_eps=1e-5``, and its MobileNetV2 ``padding="symmetric"`` in models with that setting. Notes in the report name
    the settings that differ.
    """
    path = os.fspath(file)
    require(os.path.isfile(path), f"file: no such file: {path}")
    require(pickles.matches(path), f"file: {path} is damaged or no .pth or .pkl file")
    entries = pickles.read(path)
    reader = next((r for r in (detectron2, torchvision) if r.matches(entries) and r.is_imagenet(entries)), None)
    require(reader is not None, f"file: {path} holds no classifier of torchvision or detectron2")
    state = reader.read(model, entries)  # type: ignore[union-attr]
    own = model.state_dict()
    layers = [name for name in state if name.startswith("backbone.") and name in own]
    require(bool(layers), f"model: {type(model).__name__} has no backbone with the layers of {path}")
    shared = [parts[0] for parts in zip(*(name.split(".") for name in layers), strict=False) if len(set(parts)) == 1]
    trunk = ".".join(shared) + "."
    only = (trunk, *(part for part in LATER if any(name.startswith(part) for name in state)))
    return assign(model, state, path, only=only)
