"""Random weights with a trained detector's habits: some sure objects, most places empty, boxes of many sizes.

Random weights as they come make scores that are all alike; then no box passes a threshold, or thousands tie, and what
follows the network is not measured.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# last layers: mean and deviation of each output's numbers over the picture
CENTERNET = {"heatmap": (-6.0, 1.7), "size": (24.0, 12.0), "offset": (0.5, 0.2), "keypoint_heatmap": (-6.0, 1.7),
             "keypoint_regression": (0.0, 6.0), "keypoint_offset": (0.5, 0.2)}  # fmt: skip
FASTER_RCNN = {"rpn cls_logits": (-3.0, 2.0), "rpn bbox_pred": (0.0, 0.3),
               "roi cls_score": (0.0, 1.6), "roi bbox_pred": (0.0, 0.5)}  # fmt: skip


def _normalise(norm: Any, inputs: tuple[Tensor, ...]) -> None:
    x = inputs[0].float()
    if x.numel() > x.shape[1]:
        variance = x.var((0, 2, 3))
        norm.running_mean.copy_(x.mean((0, 2, 3)))
        # a channel that hardly varies here is not blown up: rounding would be, and decide what is found
        norm.running_var.copy_(variance.maximum(variance.mean()))


def _shaped(mean: float, deviation: float) -> Any:
    def shape(layer: Any, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
        if not hasattr(layer, "shaped"):
            layer.shaped = True
            others = [d for d in range(result.ndim) if d != 1]
            scale = deviation / (result.std(others) + 1e-12)
            shift = mean - result.mean(others) * scale
            layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.mul_(scale).add_(shift)
        return layer.forward(*inputs)

    return shape


@torch.no_grad()
def behave(model: nn.Module, image: Tensor) -> nn.Module:
    """Change the norms' statistics and the last layers of ``model`` so that it detects in ``image``; returns it.

    ``model`` is ours or torchvision's Faster R-CNN.
    """
    handles = []
    for name, module in model.named_modules():
        if hasattr(module, "running_var"):
            handles.append(module.register_forward_pre_hook(_normalise))
        wanted = FASTER_RCNN.get(f"{name[:3]} {name.rpartition('.')[2]}")  # torchvision's has the same names
        if name.startswith("head.") and name.endswith(".out"):
            wanted = CENTERNET[name.split(".")[1]]
        if wanted:
            handles.append(module.register_forward_hook(_shaped(*wanted)))
    model([image])
    for handle in handles:
        handle.remove()
    for module in model.modules():
        module.__dict__.pop("shaped", None)
    return model
