"""Evaluation of detectors: COCO's and Pascal VOC's average precision, what they consist of, and a report."""

from __future__ import annotations

from .analysis import ClassScores, Evaluation, analyze
from .page import report
from .pascal import voc
from .prediction import predict, to_results
from .scores import BOX_NAMES, KEYPOINT_NAMES, coco, score, scores_keypoints

__all__ = ["BOX_NAMES", "KEYPOINT_NAMES", "ClassScores", "Evaluation", "analyze", "coco", "predict", "report", "score",
           "scores_keypoints", "to_results", "voc"]  # fmt: skip
