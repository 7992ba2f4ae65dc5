"""Reads torchvision's weights: Faster R-CNN by its module names, and ImageNet classifiers.

Our modules have torchvision's names except in the second stage, whose names are shorter and whose box layer has no rows
for background. The names of files written before torchvision 0.13 are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...models.backbones.mobilenet_v2 import torchvision_names
from ..report import Entries, differences, renamed

# torchvision's name → ours; the first that matches
DETECTOR = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"(backbone\.fpn\.\w+\.\d+)\.(weight|bias)", r"\1.0.\2"),  # before 0.13
        (r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.conv.0.\1"),  # before 0.13
        (r"rpn\.head\.conv\.(\d+)\.0\.(\w+)", r"rpn.head.conv.\1.\2"),
        (r"roi_heads\.box_head\.(fc[67]\.\w+)", r"roi.head.\1"),
        (r"roi_heads\.box_head\.(\d+)\.0\.(\w+)", r"roi.head.convs.\1.conv.\2"),
        (r"roi_heads\.box_head\.(\d+)\.1\.(\w+)", r"roi.head.convs.\1.norm.\2"),
        (r"roi_heads\.box_head\.\d+\.(weight|bias)", r"roi.head.fc6.\1"),  # the layer after the convolutions
        (r"roi_heads\.box_predictor\.(\w+\.\w+)", r"roi.predictor.\1"),
    )
]
IMAGENET = re.compile(r"(layer1\.0\.conv1|features\.0|features\.0\.0)\.weight")
FULLY_CONNECTED = {"classifier.0": "fc6", "classifier.3": "fc7"}  # VGG's layers from which the paper's head starts
CONVENTIONS = {
    "normalization": "imagenet",
    "stride_in_1x1": False,
    "same_pool": False,
    "rpn.anchors": "torchvision",
    "roi.pool": "align",
    "roi.aligned": False,
}
CLASSIFIER = {"normalization": "imagenet", "padding": "symmetric", "stride_in_1x1": False, "same_pool": False}


def matches(source: Any) -> bool:
    """Whether ``source`` is a dict with torchvision's names."""
    if not isinstance(source, Mapping):
        return False
    return any(str(k).startswith(("backbone.body.", "roi_heads.box_predictor.")) for k in source) or is_imagenet(source)


def is_imagenet(source: Mapping[str, Any]) -> bool:
    """Whether ``source`` holds a classifier: a backbone without a detector."""
    return any(IMAGENET.fullmatch(str(name)) for name in source)


def read(model: nn.Module, source: Mapping[str, Any]) -> Entries:
    """The dict's tensors by the model's names; tensors of no layer keep torchvision's names."""
    if is_imagenet(source):
        return backbone(model, source)
    state = Entries({name: torch.as_tensor(value) for name, value in renamed(source, DETECTOR).items()})
    for field in ("weight", "bias"):
        if (name := f"roi.predictor.bbox_pred.{field}") in state and "roi.predictor.cls_score.bias" in state:
            rows = 4 * len(state["roi.predictor.cls_score.bias"])
            state[name] = state[name][4:] if len(state[name]) == rows else state[name]  # the background's box
    config = getattr(model, "config", None)
    state.notes += differences(config, CONVENTIONS, "torchvision's weights")
    if "rpn.head.conv.weight" in source and getattr(config, "norm", "") == "frozen" and config.norm_eps != 0:  # type: ignore[union-attr]
        state.notes += (
            "the layers have the names of torchvision before 0.13, as its published COCO_V1 weights do; these were "
            f"trained with norm_eps=0.0, the model has norm_eps={config.norm_eps}",  # type: ignore[union-attr]
        )
    return state


def backbone(model: nn.Module, source: Mapping[str, Any]) -> Entries:
    """An ImageNet classifier's layers by the model's names, without its last layers.

    A head that is ResNet's last stage or VGG's first fully connected layers is included.
    """
    own = model.state_dict()
    mobilenet = {theirs: name for name, theirs in torchvision_names().items()}
    first = f".{mobilenet['features.0.0']}.weight"
    trunk = next((name.removesuffix(first) for name in own if name.endswith(first)), None)  # where MobileNetV2 begins
    state = Entries()
    for theirs, value in source.items():
        layer, _, field = theirs.rpartition(".")
        name = f"backbone.body.{theirs}"
        if trunk is not None and layer in mobilenet:
            name = f"{trunk}.{mobilenet[layer]}.{field}"
            if mobilenet[layer].startswith("last.") and name not in own:  # this model has no such layer
                continue
        elif theirs.startswith("layer4.") and f"roi.head.{theirs}" in own:
            name = f"roi.head.{theirs}"
        elif theirs.startswith(("fc.", "classifier.")):
            name = f"roi.head.{FULLY_CONNECTED.get(layer)}.{field}"
            if name not in own or own[name].shape != value.shape:
                continue
        state[name] = torch.as_tensor(value)
    expected = {**CLASSIFIER, "norm_eps": 1e-5} if any(name.endswith("running_var") for name in source) else CLASSIFIER
    state.notes = differences(getattr(model, "config", None), expected, "torchvision's weights")
    return state
