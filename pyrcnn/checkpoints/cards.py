"""Model cards: what a preset is, costs and reaches, from its configuration, its measured size and what is published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .. import models
from ..models.preprocess import RESIZES
from . import embedded
from .fitting import skeleton
from .zoo import PUBLISHED

MEASURED = embedded.ASSETS / "models.json"  # written by docs/model_cards.py, so that a listing need not build models
PICTURE = (480, 640)  # height and width of the picture whose FLOPs are counted, COCO's most frequent


def network_input(config: models.Config) -> tuple[int, int]:
    """Height and width of the network's input for :data:`PICTURE`."""
    if isinstance(config, models.CenterNetConfig):
        return config.input_size, config.input_size
    if config.resize == "square":
        return config.max_size, config.max_size
    height, width = RESIZES[config.resize][0](*PICTURE, config.min_size, config.max_size)
    return -(-height // 32) * 32, -(-width // 32) * 32


def measure(name: str, flops: bool = True) -> dict[str, Any]:
    """``parameters`` (with moving statistics), ``trainable`` ones, ``gflops`` of one picture from the input to boxes.

    A multiply-add counts as two; convolutions and matrix products are counted, as ``torch.utils.flop_counter`` does.
    Nothing is computed: the model is on the meta device.
    """
    config = models.PRESETS[name]
    model = skeleton(config)
    sizes = {key: value.numel() for key, value in model.state_dict().items()}
    found: dict[str, Any] = {
        "parameters": sum(size for key, size in sizes.items() if not key.endswith("num_batches_tracked")),
        "trainable": sum(parameter.numel() for parameter in model.parameters()),
    }
    if flops:
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            _predict(model.eval(), torch.empty(1, 3, *network_input(config)), torch.empty(1, 2, dtype=torch.int64))
        found["gflops"] = round(counter.get_total_flops() / 1e9, 1)
    return found


def _predict(model: nn.Module, pixels: torch.Tensor, sizes: torch.Tensor) -> None:
    model.predict_padded(pixels, sizes)  # type: ignore[operator]


@lru_cache(maxsize=1)
def _measured() -> dict[str, dict[str, Any]]:
    return json.loads(MEASURED.read_text())


def card(name: str) -> dict[str, Any]:
    """Everything about one preset, as plain values; what is not published is None."""
    config, entry = models.PRESETS[name], PUBLISHED.get(name)
    if isinstance(config, models.CenterNetConfig) or config.resize == "square":
        side = network_input(config)[0]
        size = f"{side} × {side}"
    else:
        size = f"{config.min_size}–{config.max_size}"
    weights = [("embedded", name in embedded.weights()), ("zoo", bool(entry and entry.url))]
    return {
        "name": name,
        "family": models.FAMILIES[type(config)].__name__,
        "backbone": config.backbone,
        "classes": config.num_classes,
        "input": size,
        **_measured()[name],
        "ap": entry.ap if entry else None,
        "keypoint_ap": entry.keypoint_ap if entry else None,
        "voc_ap": entry.voc_ap if entry else None,
        "milliseconds": entry.milliseconds if entry else None,
        "weights": [kind for kind, there in weights if there],
        "url": entry.url or None if entry else None,
        "licence": entry.licence or None if entry else None,
        "settings": dict(entry.changes) if entry else {},
        "proof": entry.proof if entry else None,
    }


def accuracy(entry: Mapping[str, Any]) -> str:
    """The published accuracy of a card in few characters."""
    parts = [("ap", "{:.1f}"), ("keypoint_ap", "{:.1f} keypoints"), ("voc_ap", "{:.1f} VOC07")]
    return " / ".join(form.format(entry[key]) for key, form in parts if entry[key] is not None)


def markdown() -> str:
    """The document ``docs/MODELS.md``."""
    cards = [card(name) for name in models.names()]
    lines = [HEAD, "| model | input | parameters | GFLOPs | mAP | ms | weights |", "|---|---|---|---|---|---|---|"]
    for entry in cards:
        speed = "" if entry["milliseconds"] is None else f"{entry['milliseconds']:.0f}"
        lines.append(
            f"| [{entry['name']}](#{entry['name']}) | {entry['input']} | {entry['parameters'] / 1e6:.1f} M "
            f"| {entry['gflops']} | {accuracy(entry)} | {speed} | {', '.join(entry['weights'])} |"
        )
    for entry in cards:
        height, width = network_input(models.PRESETS[entry["name"]])
        facts = {
            "model": f"{entry['family']}, backbone {entry['backbone']}, {entry['classes']} classes",
            "parameters": f"{entry['parameters']:,}, of them trainable {entry['trainable']:,}",
            "GFLOPs": f"{entry['gflops']} at {height} × {width}",
            "input": f"{entry['input']} pixels" + (" (shorter–longer side)" if "–" in entry["input"] else ""),
            "published mAP": accuracy(entry),
            "published speed": f"{entry['milliseconds']:.0f} ms" if entry["milliseconds"] is not None else "",
            "weights": f"<{entry['url']}>" if entry["url"] else "",
            "their licence": entry["licence"],
            "settings that come with them": ", ".join(f"`{key}={value}`" for key, value in entry["settings"].items()),
            "embedded weights": "blood cells, see `pyrcnn/assets/TRAINING.md`"
            if "embedded" in entry["weights"]
            else "",
            "equality is proved by": entry["proof"],
        }
        lines += ["", f"## {entry['name']}", "", *(f"- {key}: {value}" for key, value in facts.items() if value)]
    return "\n".join(lines) + "\n"


HEAD = """# Models

Written by `python docs/model_cards.py`; do not edit.

Parameters include the norms' moving statistics. GFLOPs count a multiply-add as two, for one picture of 480 × 640
brought to the input size, from the network's input to its detections, convolutions and matrix products only. mAP is
COCO val2017's in percent, boxes unless it says keypoints; it and the speed are as published by whoever published the
weights, on their machine, which the TensorFlow zoo does not name. `zoo` in the last column: `--weights zoo` downloads
them.
"""
