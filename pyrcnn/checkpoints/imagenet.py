"""Backbones trained on ImageNet, from torchvision's classification files: where fine-tuning begins."""

from __future__ import annotations

import os
import re

import torch
from torch import nn

from ..errors import InputError, require
from ..models.backbones import MobileNetV2
from .report import Report, assign

# torchvision's MobileNetV2 names → ours. Block B is features.{B + 1}; only the first has no expansion.
_FIRST = {"0.0": "depthwise.conv", "0.1": "depthwise.norm", "1": "project.conv", "2": "project.norm"}
_OTHER = {"0.0": "expand.conv", "0.1": "expand.norm", "1.0": "depthwise.conv", "1.1": "depthwise.norm",
          "2": "project.conv", "3": "project.norm"}  # fmt: skip
_ENDS = {"0": "stem", "18": "last"}
_PART = {"0": "conv", "1": "norm"}


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
        state = {_renamed(name): value for name, value in given.items() if not name.startswith("classifier.")}
    except Exception as error:  # pickle, zip and name errors alike
        raise InputError(f"file: {path} is damaged or no MobileNetV2 weights of torchvision ({error})") from None
    return assign(trunk, state, path)  # type: ignore[arg-type]


def _renamed(name: str) -> str:
    """``features.3.conv.1.0.weight`` → ``blocks.2.depthwise.conv.weight``."""
    if end := re.fullmatch(r"features\.(0|18)\.([01])\.(\w+)", name):
        return f"{_ENDS[end[1]]}.{_PART[end[2]]}.{end[3]}"
    block = re.fullmatch(r"features\.(\d+)\.conv\.([\d.]+)\.(\w+)", name)
    if block is None:
        raise KeyError(name)
    parts = _FIRST if block[1] == "1" else _OTHER
    return f"blocks.{int(block[1]) - 1}.{parts[block[2]]}.{block[3]}"
