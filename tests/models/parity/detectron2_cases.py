"""What detectron2's detectors and ours are compared on; read by the fixture's script and by its tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from .drawn_weights import draw


@dataclass(frozen=True)
class Case:
    """One detector, and the options that keep it quick."""

    preset: str  # ours
    config: str  # detectron2's, under COCO-Detection
    proposals: int
    trainable_layers: int  # ours for detectron2's default, which freezes the stem and the first stage


CASES = (
    Case("faster_rcnn_resnet50_fpn_detectron2", "faster_rcnn_R_50_FPN_1x", 150, 3),
    Case("faster_rcnn_resnet50_c4_detectron2", "faster_rcnn_R_50_C4_1x", 40, 2),
)
MIN_SIZE, MAX_SIZE = 200, 272  # no multiples of 32 come out: the C4 detector pads to none
LOSSES = ("coffee", "person")
TRAINING_PROPOSALS = 20
# detectron2's options that make its samplers take everything.
EVERY: dict[str, Any] = {
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 10**6,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 4096,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.5,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": TRAINING_PROPOSALS,
}
GAINS = {
    "conv3.norm.weight": 0.2,  # else rounding errors grow from block to block, as they do not in a trained network
    "fpn_": 0.5,
    "objectness_logits": 1.0,
    "anchor_deltas": 0.4,
    "cls_score": 2.0,
    "bbox_pred": 1.0,
}
BIASES = {"roi_heads.box_predictor.cls_score.bias": {80: 3.0}}  # detectron2's background is the last class
LOSS_NAMES = {"loss_rpn_cls": "loss_objectness", "loss_rpn_loc": "loss_rpn_box_reg", "loss_cls": "loss_classifier",
              "loss_box_reg": "loss_box_reg"}  # fmt: skip


def weights(state: dict[str, Tensor], statistics: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Numbers for detectron2's ``state``."""
    return draw(state, statistics, GAINS, BIASES)
