"""What torchvision's detectors and ours are compared on; read by the fixture's script and by its tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .drawn_weights import draw

IMAGES = Path(__file__).parents[2] / "fixtures" / "images"
NAMES = ("coffee", "person", "street")  # 300×200, 180×240, 320×214
# Ground truth in the images' pixels and 0-based labels; it need not be true to compare losses.
TRUTH = {
    "coffee": ([[40.0, 20.5, 210.0, 180.0], [120.0, 60.0, 290.0, 150.0], [8.0, 8.0, 39.0, 45.0]], [46, 49, 46]),
    "person": ([], []),
    "street": ([[60.0, 70.25, 110.0, 190.0], [100.0, 75.0, 150.0, 200.0], [250.0, 10.0, 280.0, 60.0]], [0, 0, 9]),
}


@dataclass(frozen=True)
class Case:
    """One run of a detector."""

    name: str
    preset: str  # ours
    second_generation: bool  # torchvision's fasterrcnn_resnet50_fpn_v2
    min_size: int = 192
    max_size: int = 256
    proposals: int = 150
    detections: int = 400
    images: tuple[str, ...] = NAMES
    losses: tuple[str, ...] = ("coffee", "person")  # without an object in the second


CASES = (
    Case("first", "faster_rcnn_resnet50_fpn", False),
    # Images of equally many objects: batch norms in the RoI head would see the slots that pad ours to one number.
    Case("second", "faster_rcnn_resnet50_fpn_v2", True, losses=("coffee", "street")),
    Case("full", "faster_rcnn_resnet50_fpn", False, 800, 1333, 1000, 100, ("street",), losses=()),
)
# torchvision's options that make its samplers take everything, and that keep "everything" small.
EVERY = {"rpn_batch_size_per_image": 10**6, "box_batch_size_per_image": 4096, "box_positive_fraction": 0.5,
         "rpn_post_nms_top_n_train": 100}  # fmt: skip
# Which parameters are drawn wider or narrower, and shifted, so that a few hundred detections survive.
GAINS = {
    "bn3.weight": 0.2,  # else rounding errors grow from block to block, as they do not in a trained network
    "backbone.fpn": 0.5,
    "rpn.head.cls_logits": 1.0,
    "rpn.head.bbox_pred": 0.4,
    "roi_heads.box_predictor.cls_score": 2.0,
    "roi_heads.box_predictor.bbox_pred": 1.0,
}
BIASES = {"roi_heads.box_predictor.cls_score.bias": {0: 5.0}}


def example_image(name: str) -> Tensor:
    """[3, H, W] uint8."""
    with Image.open(IMAGES / f"{name}.png") as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def truth(name: str) -> tuple[Tensor, Tensor]:
    """Boxes [K, 4] and labels [K]."""
    boxes, labels = TRUTH[name]
    return torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64)


def weights(state: dict[str, Tensor], statistics: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Numbers for torchvision's ``state``."""
    return draw(state, statistics, GAINS, BIASES)
