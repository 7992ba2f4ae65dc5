"""Detectors by name: ``build("centernet_mobilenet_v2_fpn_512", num_classes=3)``."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import require
from .centernet import CenterNet, CenterNetConfig
from .detector import Detector, Network
from .faster_rcnn import FasterRCNN, FasterRCNNConfig
from .presets import FAMILIES, PRESETS, Config, changed, from_config
from .saved import load, metadata
from .wrapping import unwrap


def names() -> list[str]:
    """The names that :func:`build` knows, as ``pyrcnn models`` lists them.

    Example:
        >>> names()[-1]
        'faster_rcnn_vgg16'
    """
    return list(PRESETS)


def build(name: str, **changes: Any) -> nn.Module:
    """The detector ``name`` with random weights, in training mode.

    Args:
        name: one of :func:`names`.
        changes: fields of its configuration to replace, for example ``num_classes=3``; a nested configuration takes a
            dict: ``roi={"score_threshold": 0.3}``.

    Returns:
        a :class:`CenterNet` or a :class:`FasterRCNN`, float32, on the CPU.

    Raises:
        pyrcnn.InputError: for an unknown name or field, and for values that no model has.

    Example:
        >>> build("centernet_mobilenet_v2_fpn_512", num_classes=3).config.num_classes
        3
    """
    require(name in PRESETS, f"name must be one of {', '.join(PRESETS)}, got {name!r}")
    return from_config(changed(PRESETS[name], **changes))


__all__ = [
    "FAMILIES",
    "PRESETS",
    "CenterNet",
    "CenterNetConfig",
    "Config",
    "Detector",
    "FasterRCNN",
    "FasterRCNNConfig",
    "Network",
    "build",
    "changed",
    "from_config",
    "load",
    "metadata",
    "names",
    "unwrap",
]
