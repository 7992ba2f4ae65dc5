"""Evaluation of detectors: COCO's and Pascal VOC's average precision of a model, of detections or of a results file."""

from __future__ import annotations

from .pascal import voc
from .prediction import predict, to_results
from .scores import BOX_NAMES, KEYPOINT_NAMES, coco, score, scores_keypoints

__all__ = ["BOX_NAMES", "KEYPOINT_NAMES", "coco", "predict", "score", "scores_keypoints", "to_results", "voc"]
