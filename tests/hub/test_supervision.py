"""Detections to and from supervision."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pyrcnn import Detections, InputError


def found(keypoints: bool = False) -> Detections:
    boxes = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]], dtype=torch.bfloat16)
    points = torch.tensor([[[1.0, 2, 0.5]], [[3, 4, 0.25]]]) if keypoints else None
    return Detections(boxes, torch.tensor([0.75, 0.5]), torch.tensor([1, 0]), points)


def test_there_and_back() -> None:
    supervision = pytest.importorskip("supervision")
    theirs = found().to_supervision(["cat", "dog"])
    assert isinstance(theirs, supervision.Detections)
    assert theirs.xyxy.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert (theirs.confidence.tolist(), theirs.class_id.tolist()) == ([0.75, 0.5], [1, 0])
    assert theirs["class_name"].tolist() == ["dog", "cat"]
    again = Detections.from_supervision(theirs[[1, 0]])
    assert again.boxes.dtype == torch.float32
    assert (again.boxes.tolist(), again.scores.tolist()) == (theirs.xyxy.tolist(), [0.75, 0.5])
    assert again.labels.tolist() == [1, 0]
    assert again.labels.dtype == torch.int64
    assert "class_name" not in found().to_supervision().data
    assert len(found()[:0].to_supervision(["cat"])) == 0
    assert len(Detections.from_supervision(found()[:0].to_supervision())) == 0
    with pytest.raises(InputError, match="classes must have a name for each label, got 1 for labels up to 1"):
        found().to_supervision(["cat"])


def test_keypoints() -> None:
    supervision = pytest.importorskip("supervision")
    theirs = found(keypoints=True).to_supervision_keypoints(["cat", "dog"])
    assert isinstance(theirs, supervision.KeyPoints)
    assert theirs.xy.tolist() == [[[1, 2]], [[3, 4]]]
    assert theirs.keypoint_confidence.tolist() == [[0.5], [0.25]]
    assert theirs.class_id.tolist() == [1, 0]
    assert theirs["class_name"].tolist() == ["dog", "cat"]
    with pytest.raises(InputError, match="needs detections with keypoints"):
        found().to_supervision_keypoints()


def test_what_lacks_scores_or_labels_is_refused() -> None:
    boxes = np.zeros((1, 4), np.float32)
    with pytest.raises(InputError, match=r"detections must be supervision.Detections with confidence"):
        Detections.from_supervision(SimpleNamespace(xyxy=boxes, confidence=None, class_id=None))


def test_without_supervision_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match=r"^to_supervision needs supervision: pip install supervision$"):
        found().to_supervision()
