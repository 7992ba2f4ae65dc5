"""faster-coco-eval, where it is installed, gives pycocotools' numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pyrcnn.evaluate import cocoeval
from pyrcnn.evaluate.inputs import Inputs, read_annotations

from .files import FIXTURES
from .test_voc import random_case

faster_coco_eval = pytest.importorskip("faster_coco_eval")
CASES = json.loads((FIXTURES / "expected.json").read_text())["cases"]


def compare(truth: Any, results: Any, keypoints: bool = False, sigmas: Any = None) -> None:
    inputs = Inputs(read_annotations(truth), results)
    found = inputs.checked(keypoints)
    slow, fast = (cocoeval.run(inputs.annotations, found, keypoints, sigmas, all_labels=a) for a in (True, False))
    assert type(fast) is not type(slow)
    np.testing.assert_allclose(fast.stats, slow.stats, rtol=0, atol=1e-14)
    kept = [k for k, label in enumerate(slow.params.catIds) if label in fast.params.catIds]
    for name in ("precision", "scores"):
        np.testing.assert_allclose(fast.eval[name], slow.eval[name][:, :, kept], rtol=0, atol=1e-14)
    np.testing.assert_allclose(fast.eval["recall"], slow.eval["recall"][:, kept], rtol=0, atol=1e-14)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["dt"])
def test_files(case: dict) -> None:
    truth, found = (json.loads((FIXTURES / case[key]).read_text()) for key in ("gt", "dt"))
    compare(truth, found, case["kind"] == "keypoints")
    if case["kind"] == "keypoints":
        compare(truth, found, True, np.linspace(0.02, 0.2, 17).tolist())


def test_random_cases() -> None:
    """With crowds, equal scores, many detections, none, and no objects."""
    for seed in range(30):
        truth, results = random_case(seed)
        compare(truth, results)
    compare(truth, [])
    compare(truth, results * 40)
    compare(truth | {"annotations": []}, results)
