"""Backbones trained on ImageNet, from torchvision's classification files: where fine-tuning begins."""

from __future__ import annotations

import os

import torch
from torch import nn

from ..errors import InputError, require
from ..models.backbones.mobilenet_v2 import MobileNetV2, torchvision_names
from .report import Report, assign


def load_backbone(model: nn.Module, file: str | os.PathLike[str]) -> Report:
    """Fill ``model.backbone`` from torchvision's MobileNetV2 ImageNet file (``mobilenet_v2-*.pth``).

    The rest of the model keeps its values. Those weights expect ``padding="symmetric"``, ``normalization="imagenet"``
    and ``norm_eps=1e-5`` where the model's configuration lets one choose.
    """
    path = os.fspath(file)
    require(os.path.isfile(path), f"file: no such file: {path}")
    trunk = next((m for m in model.modules() if isinstance(m, MobileNetV2)), None)
    require(trunk is not None, f"model: {type(model).__name__} has no MobileNetV2 backbone")
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
        ours = {theirs: name for name, theirs in torchvision_names().items()}
        layers = ((name, *name.rpartition(".")) for name in given if not name.startswith("classifier."))
        state = {f"{ours[layer]}.{field}": given[name] for name, layer, _, field in layers}
    except Exception as error:  # pickle, zip and name errors alike
        raise InputError(f"file: {path} is damaged or no MobileNetV2 weights of torchvision ({error})") from None
    return assign(trunk, state, path)  # type: ignore[arg-type]
