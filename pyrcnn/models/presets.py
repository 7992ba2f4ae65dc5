"""The model zoo: public name → configuration, one screen."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import nn

from ..errors import require
from .centernet import CenterNet, CenterNetConfig

Config = CenterNetConfig
FAMILIES: dict[type, type[nn.Module]] = {CenterNetConfig: CenterNet}  # which class builds which configuration

# CenterNet (Zhou et al. 2019) as in the TF2 model zoo; see CenterNetConfig for what they have in common
_hourglass = CenterNetConfig(
    backbone="hourglass104",
    normalization="extremenet",
    neck="none",
    separable=False,
    norm_eps=1e-5,
    norm_momentum=0.9,
)
_resnet_fpn = CenterNetConfig(
    backbone="resnet50_v1",
    normalization="caffe",
    neck_laterals=(256, 128, 64),
    neck_widths=(128, 64, 64),
    separable=False,
    norm_eps=1.001e-5,
    norm_momentum=0.01,
)
_resnet_v2 = CenterNetConfig(
    backbone="resnet50_v2",
    neck="deconv",
    neck_widths=(256, 128, 64),
    separable=False,
    norm_eps=1.001e-5,
    norm_momentum=0.01,
)
_mobilenet = CenterNetConfig(max_detections=20)


def _with_people(config: CenterNetConfig) -> CenterNetConfig:
    return replace(config, joints=17, clip_keypoints=True)


PRESETS: dict[str, Config] = {
    "centernet_hg104_512": _hourglass,
    "centernet_hg104_512_kpts": _with_people(_hourglass),
    "centernet_hg104_1024": replace(_hourglass, input_size=1024),
    "centernet_hg104_1024_kpts": _with_people(replace(_hourglass, input_size=1024)),
    "centernet_resnet50_v1_fpn_512": _resnet_fpn,
    "centernet_resnet50_v1_fpn_512_kpts": _with_people(_resnet_fpn),
    "centernet_resnet101_v1_fpn_512": replace(_resnet_fpn, backbone="resnet101_v1"),
    "centernet_resnet50_v2_512": _resnet_v2,
    "centernet_resnet50_v2_512_kpts": _with_people(_resnet_v2),
    "centernet_mobilenet_v2_fpn_512": _mobilenet,
    "centernet_mobilenet_v2_fpn_512_kpts": replace(_mobilenet, num_classes=1, joints=17),
}


def changed(config: Any, **changes: Any) -> Any:
    """``config`` with some fields replaced; a nested configuration takes a dict of its own changes.

    Unknown names raise :class:`pyrcnn.InputError`; lists become tuples, so what JSON gave back compares equal.
    """
    known = {field.name for field in fields(config)}
    for name, value in changes.items():
        require(name in known, f"{name} is no field of {type(config).__name__}; fields: {', '.join(sorted(known))}")
        if is_dataclass(getattr(config, name)) and isinstance(value, dict):
            changes[name] = changed(getattr(config, name), **value)
        elif isinstance(value, list):
            changes[name] = _tuples(value)
    return replace(config, **changes)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
