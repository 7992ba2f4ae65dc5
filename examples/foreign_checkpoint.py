"""Writes checkpoints as torchvision and detectron2 name their weights, from random weights, and reads them back.

    python examples/foreign_checkpoint.py

writes theirs.pth (torchvision's names) and theirs.pkl (detectron2's) into the current folder: the files that you would
bring, in small. It then loads each into a new model and compares the detections with those of the model that the
weights came from.
"""

from __future__ import annotations

import pickle
import re

import torch
from torch import Tensor, nn

from pyrcnn import Detections, checkpoints, models

SMALL = {"num_classes": 3, "fpn_channels": 8, "min_size": 128, "max_size": 160,
         "roi": {"width": 16, "score_threshold": 0.0, "max_detections": 10}}  # fmt: skip

# Rules (pattern of our name, their name), applied in turn.
TORCHVISION = [
    (r"roi\.head\.", "roi_heads.box_head."),
    (r"roi\.predictor\.", "roi_heads.box_predictor."),
    (r"rpn\.head\.conv\.0\.", "rpn.head.conv.0.0."),
]
DETECTRON2 = [
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.", lambda m: f"backbone.fpn_lateral{int(m[1]) + 2}."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.", lambda m: f"backbone.fpn_output{int(m[1]) + 2}."),
    (r"backbone\.body\.layer(\d)", lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}"),
    (r"backbone\.body\.", "backbone.bottom_up.stem."),
    (r"downsample\.0", "shortcut"),
    (r"downsample\.1", "shortcut.norm"),
    (r"bn(\d)", r"conv\1.norm"),
    (r"rpn\.head\.conv\.0\.", "proposal_generator.rpn_head.conv."),
    (r"rpn\.head\.cls_logits", "proposal_generator.rpn_head.objectness_logits"),
    (r"rpn\.head\.bbox_pred", "proposal_generator.rpn_head.anchor_deltas"),
    (r"roi\.head\.fc6", "roi_heads.box_head.fc1"),
    (r"roi\.head\.fc7", "roi_heads.box_head.fc2"),
    (r"roi\.predictor\.", "roi_heads.box_predictor."),
]


def detector(name: str) -> nn.Module:
    """Return a small detector with random weights, in which no two norms are alike."""
    torch.manual_seed(0)
    model = models.build(name, **SMALL).eval()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value *= 0.9 + 0.2 * torch.rand_like(value)
    return model


def as_torchvision(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's weights by torchvision's names. Its box predictor has a row for the background, never read."""
    state = renamed(model, TORCHVISION)
    for end in ("weight", "bias"):
        boxes = state[f"roi_heads.box_predictor.bbox_pred.{end}"]
        state[f"roi_heads.box_predictor.bbox_pred.{end}"] = torch.cat([torch.zeros_like(boxes[:4]), boxes])
    return state


def as_detectron2(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's weights by detectron2's names. Its classes have the background last."""
    state = renamed(model, DETECTRON2)
    for end in ("weight", "bias"):
        state[f"roi_heads.box_predictor.cls_score.{end}"] = state[f"roi_heads.box_predictor.cls_score.{end}"].roll(
            -1, 0
        )
    return state


def renamed(model: nn.Module, rules: list[tuple[str, object]]) -> dict[str, Tensor]:
    """Return the weights with names changed by ``rules``."""
    state = {}
    for name, value in model.state_dict().items():
        for pattern, theirs in rules:
            name = re.sub(pattern, theirs, name)  # type: ignore[call-overload]
        state[name] = value.clone()
    return state


def difference(ours: Detections, theirs: Detections) -> float:
    """Return the largest difference of boxes in pixels; infinity if the classes or the number of objects differ."""
    if ours.labels.tolist() != theirs.labels.tolist():
        return float("inf")
    return float((ours.boxes - theirs.boxes).abs().max()) if len(ours) else 0.0


def main() -> None:
    """Write, read and compare."""
    image = torch.randint(0, 256, (3, 120, 150), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for name, file in (
        ("faster_rcnn_resnet50_fpn", "theirs.pth"),
        ("faster_rcnn_resnet50_fpn_detectron2", "theirs.pkl"),
    ):
        source = detector(name)
        if file.endswith(".pth"):
            torch.save(as_torchvision(source), file)
        else:
            content = {"model": {k: v.numpy() for k, v in as_detectron2(source).items()}, "__author__": "an example"}
            with open(file, "wb") as stream:
                pickle.dump(content, stream)
        model, report = checkpoints.build(name, file, **SMALL)
        print(report)
        found, wanted = model.eval()([image])[0], source([image])[0]
        print(f"{len(wanted)} detections, largest difference {difference(found, wanted)} pixels")


if __name__ == "__main__":
    main()
