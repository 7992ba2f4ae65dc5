"""torchvision's detectors on our operators. The swap: call ``pyrcnn.provide_torchvision(override=True)``."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from timing import arguments, report, timed

import pyrcnn

NAMES = {"fasterrcnn_resnet50_fpn": (800, 1088), "fasterrcnn_mobilenet_v3_large_fpn": (800, 1088)}
SMALL = {"fasterrcnn_mobilenet_v3_large_320_fpn": (240, 320)}


def detector(name: str, image: torch.Tensor) -> Any:
    """Return the detector with random weights, whose classifier is scaled so that it finds objects in ``image``."""
    detection = importlib.import_module("torchvision.models.detection")
    torch.manual_seed(0)
    model = getattr(detection, name)(weights=None, weights_backbone=None).eval()
    predictor = model.roi_heads.box_predictor
    logits = []
    hook = predictor.register_forward_hook(lambda module, inputs, outputs: logits.append(outputs[0]))
    model([image])
    hook.remove()
    torch.nn.init.zeros_(predictor.cls_score.bias)
    predictor.cls_score.weight.mul_(2 / (logits[0] - logits[0].mean(0)).std())
    return model


@torch.inference_mode()
def run(names: dict[str, tuple[int, int]]) -> dict[str, tuple[Any, float]]:
    """Return the detections and the time of each detector."""
    found = {}
    for name, size in names.items():
        image = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
        model = detector(name, image)
        found[name] = timed(lambda m=model, x=image: m([x])[0])
    return found


def main() -> None:
    """Compare the detections and the times before and after the swap."""
    names = SMALL if arguments(__doc__).small else NAMES
    try:
        before = run(names)
    except (RuntimeError, ImportError) as error:  # torchvision's library does not load under this torch
        print(f"before: {error}")
        before = {}
    print(f"provide_torchvision: {pyrcnn.provide_torchvision(override=True)}")  # the swap
    for name, (after, time) in run(names).items():
        if name in before:
            for key, value in before[name][0].items():
                torch.testing.assert_close(after[key], value, rtol=1e-3, atol=1e-2)
        report(f"{name}, {len(after['boxes'])} detections", before[name][1] if name in before else None, time)


if __name__ == "__main__":
    main()
