"""Facts about each preset: configuration, size, and what is published for it, as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from .. import models
from . import bundled
from .zoo import PUBLISHED

MEASURED = bundled.ASSETS / "models.json"  # by scripts/site/model_cards.py, so that listing builds no models


@lru_cache(maxsize=1)
def _measured() -> dict[str, dict[str, Any]]:
    return json.loads(MEASURED.read_text())


def card(name: str) -> dict[str, Any]:
    """The facts about one preset; what is not published is None."""
    config, entry = models.PRESETS[name], PUBLISHED.get(name)
    weights = {"bundled": name in bundled.weights(), "zoo": bool(entry and entry.url)}
    return {
        "name": name,
        "family": models.presets.FAMILIES[type(config)].__name__,
        "backbone": config.backbone,
        "classes": config.num_classes,
        **_measured()[name],
        "ap": entry.ap if entry else None,
        "keypoint_ap": entry.keypoint_ap if entry else None,
        "voc_ap": entry.voc_ap if entry else None,
        "milliseconds": entry.milliseconds if entry else None,
        "weights": [kind for kind, available in weights.items() if available],
        "url": entry.url or None if entry else None,
        "licence": entry.licence or None if entry else None,
        "settings": dict(entry.changes) if entry else {},
        "proof": entry.proof if entry else None,
    }


def accuracy(entry: Mapping[str, Any]) -> str:
    """The published accuracy of a card as a short text."""
    parts = [("ap", "{:.1f}"), ("keypoint_ap", "{:.1f} keypoints"), ("voc_ap", "{:.1f} VOC07")]
    return " / ".join(form.format(entry[key]) for key, form in parts if entry[key] is not None)
