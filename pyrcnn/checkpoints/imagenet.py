"""Fills backbones from ImageNet classifiers of torchvision and detectron2, to train detectors from."""

from __future__ import annotations

import os

from torch import nn

from .. import models
from ..errors import path_of, require
from .choosing import choose
from .formats import detectron2, pickles, safetensors_files, torchvision
from .report import Report, assign

CLASSIFIERS = (detectron2, torchvision)
LATER = ("roi.head.layer4.", "roi.head.fc6.", "roi.head.fc7.")  # heads that start from a classifier's last stages


def load_backbone(model: nn.Module, file: str | os.PathLike[str]) -> Report:
    """Fill ``model.backbone`` from a classifier; the rest of the model keeps its values and is reported as missing.

    An RoI head that is ResNet's last stage or VGG's fully connected layers is filled too. torchvision's weights expect
    ``normalization="imagenet"`` and ``norm_eps=1e-5``, and its MobileNetV2 ``padding="symmetric"`` in models with that
    setting. Notes in the report name the settings that differ.

    Args:
        model: a detector, which may be wrapped.
        file: torchvision's ``.pth`` of ResNet-50, ResNet-101, VGG-16 or MobileNetV2 (``resnet50-*.pth``), or
            detectron2's ``.pkl`` of a ResNet (``R-50.pkl``).

    Raises:
        pyrcnn.InputError: if the file cannot be read, or holds another network than the backbone.

    Example::

        report = checkpoints.load_backbone(model, "resnet50-0676ba61.pth")
    """
    model = models.unwrap(model)
    path = path_of(file, "file")
    require(os.path.isfile(path), f"file: no such file: {path}")
    if safetensors_files.matches(path):
        found = safetensors_files.entries(path)[1]
    else:
        require(pickles.matches(path), f"file: {path} is damaged or no .pth, .pkl or .safetensors file")
        found = pickles.entries(path)
    choice = choose(model, found, CLASSIFIERS)
    require(choice is not None and choice.rank[0], f"file: {path} holds no classifier of torchvision or detectron2")
    state = choice.read(model, path)  # type: ignore[union-attr]
    own = model.state_dict()
    layers = [name for name in state if name.startswith("backbone.") and name in own]
    require(bool(layers), f"model: {type(model).__name__} has no backbone with the layers of {path}")
    shared = [parts[0] for parts in zip(*(name.split(".") for name in layers), strict=False) if len(set(parts)) == 1]
    trunk = ".".join(shared) + "."
    only = (trunk, *(part for part in LATER if any(name.startswith(part) for name in state)))
    return assign(model, state, path, only=only)
