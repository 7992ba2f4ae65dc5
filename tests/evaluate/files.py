"""Detections of the tests' data sets."""

from __future__ import annotations

from pathlib import Path

import torch

from pyrcnn import Detections, data

FIXTURES = Path(__file__).parent.parent / "fixtures/coco_eval"


def truth_as_detections(dataset: data.CocoDataset) -> list[Detections]:
    targets = [dataset.targets(i) for i in range(len(dataset))]
    return [Detections(t.boxes, torch.linspace(0.9, 0.5, len(t)), t.labels) for t in targets]
