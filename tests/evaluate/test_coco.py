from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyrcnn import Detections, InputError, evaluate
from tests.detector import dataset

from .files import truth_as_detections

FIXTURES = Path(__file__).parent.parent / "fixtures/coco_eval"
CASES = json.loads((FIXTURES / "expected.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["dt"])
def test_reproduces_cocos_numbers(case: dict) -> None:
    found = evaluate.coco(FIXTURES / case["dt"], FIXTURES / case["gt"], keypoints=case["kind"] == "keypoints")
    names = "AP AP50 AP75 APm APl AR AR50 AR75 ARm ARl" if case["kind"] == "keypoints" else (
        "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl")  # fmt: skip
    assert list(found) == names.split()
    assert list(found.values()) == pytest.approx(case["stats"], abs=1e-6)


def test_the_truth_scores_one_and_nothing_scores_zero(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    found = truth_as_detections(data)
    assert evaluate.coco(found, data)["AP"] == pytest.approx(1.0)
    assert evaluate.coco([], data)["AP"] == 0.0
    assert evaluate.coco([d[:0] for d in found], data)["AP"] == 0.0
    worse = [Detections(d.boxes + 100, d.scores, d.labels) for d in found]
    assert evaluate.coco(worse, data)["AP"] == 0.0


def test_category_ids_are_written(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    results = evaluate.to_results(truth_as_detections(data)[0], 7, data.category_ids)
    assert {r["category_id"] for r in results} <= {3, 5}
    assert all(r["image_id"] == 7 for r in results)
    box = data.targets(0).boxes[0].tolist()
    assert results[0]["bbox"] == pytest.approx([box[0], box[1], box[2] - box[0], box[3] - box[1]])


def test_bad_input_is_named(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    with pytest.raises(InputError, match="detections must be 6"):
        evaluate.coco(truth_as_detections(data)[:2], data)
    with pytest.raises(InputError, match="detections must be a readable file"):
        evaluate.coco(tmp_path / "none.json", data)
    (tmp_path / "half.json").write_text('[{"image_id": 1, ')
    with pytest.raises(InputError, match="detections must be valid JSON"):
        evaluate.coco(tmp_path / "half.json", data)
    with pytest.raises(InputError, match=r"entry 0 must have .*, got no score"):
        evaluate.coco([{"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}], data)
    with pytest.raises(InputError, match="image_id of the annotations, got 99"):
        evaluate.coco([{"image_id": 99, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1}], data)
    with pytest.raises(InputError, match="annotations must hold keypoints"):
        evaluate.coco([], data, keypoints=True)
