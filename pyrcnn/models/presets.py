"""The model zoo: public name → configuration, one screen."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import nn

from ..errors import require
from .centernet import CenterNet, CenterNetConfig

Config = CenterNetConfig
FAMILIES: dict[type, type[nn.Module]] = {CenterNetConfig: CenterNet}  # which class builds which configuration

PRESETS: dict[str, Config] = {
    # CenterNet (Zhou et al. 2019) as in the TF2 model zoo
    "centernet_mobilenet_v2_fpn_512": CenterNetConfig(max_detections=20),
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
