"""Whether two contenders found the same objects in an image: checked before anything is timed.

Only clear objects are compared, in both directions: each detection that one contender scores above ``SURE`` must be
among the other's detections, with the same label, nearly the same score and nearly the same box. Detections near a
threshold may differ, because rounding decides them. Calibrated weights give clear objects.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from pyrcnn import Detections, ops

SURE = 0.5
FEWEST = 4  # objects; with fewer there is too little to compare


class Tolerance(NamedTuple):
    """The greatest difference of scores, the smallest IoU, pixels between keypoints, the shares that must agree."""

    score: float
    iou: float
    pixels: float
    share: float
    keypoint_share: float


EXACT = Tolerance(score=0.01, iou=0.97, pixels=0.5, share=0.95, keypoint_share=0.95)  # both in float32
# One of them in half precision. Random weights amplify rounding errors: proposals change places, and RoIPool, which
# rounds their coordinates to cells, then pools other cells. A wrong operator moves or loses nearly all objects.
ROUNDED = Tolerance(score=0.15, iou=0.8, pixels=8.0, share=0.55, keypoint_share=0.6)


def tolerance(*names: str) -> Tolerance:
    """The tolerance for contenders or dtypes of these names."""
    return ROUNDED if any("float16" in name for name in names) else EXACT


def check_agreement(a: Detections, b: Detections, name: str, allowed: Tolerance) -> None:
    """Assert that each clear object of ``a`` is in ``b``, called ``name``, and the reverse."""
    for first, second, missing_in in ((a, b, name), (b, a, "pyrcnn")):
        clear = first[first.scores > SURE]
        assert len(clear) >= FEWEST, f"only {len(clear)} clear objects, nothing to compare with {name}"
        iou = ops.box_iou(clear.boxes.float(), second.boxes.float())
        same = (clear.labels[:, None] == second.labels) & (iou > allowed.iou)
        same &= (clear.scores[:, None].float() - second.scores.float()).abs() < allowed.score
        share = float(same.any(1).float().mean())
        assert share >= allowed.share, f"{missing_in} lacks {1 - share:.0%} of {len(clear)} objects, beside {name}"
        if first.keypoints is None or second.keypoints is None:
            continue
        partner = torch.where(same, iou, -1.0).argmax(1)
        matched = same.any(1)
        offsets = (clear.keypoints[..., :2] - second.keypoints[partner][..., :2]).float().norm(dim=-1)[matched]
        share = float((offsets < allowed.pixels).float().mean())
        assert share >= allowed.keypoint_share, f"{1 - share:.0%} of the keypoints lie elsewhere, beside {name}"
