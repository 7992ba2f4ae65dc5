"""Pascal VOC's AP against the definition in plain loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyrcnn import Detections, InputError, evaluate
from tests.detector import dataset

from . import voc_reference as reference
from .files import truth_as_detections

CLASSES = 4


def random_case(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return an annotation file and results: near and far boxes, duplicates, equal scores, difficult objects.

    The last class has no objects, or difficult ones alone.
    """
    random = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(1, 9):
        for _ in range(random.integers(0, 7)):
            x, y, w, h = random.integers((0, 0, 8, 8), (60, 60, 40, 40)).tolist()
            label = int(random.integers(0, CLASSES))
            difficult = bool(random.random() < 0.2) or label == CLASSES - 1
            annotations.append({"id": len(annotations), "image_id": image, "category_id": label, "area": w * h,
                                "bbox": [x, y, w, h], "iscrowd": int(difficult)})  # fmt: skip
            for _ in range(random.integers(0, 4)):
                dx, dy = random.integers(-4, 5, 2).tolist()
                results.append([image, label, [x + dx, y + dy, w, h]])
        for _ in range(random.integers(0, 4)):
            results.append([image, int(random.integers(0, CLASSES)), random.integers(5, 50, 4).tolist()])
    random.shuffle(results)
    truth = {"images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(1, 9)], "annotations": annotations,
             "categories": [{"id": label, "name": f"class {label}"} for label in range(CLASSES)]}  # fmt: skip
    return truth, [{"image_id": image, "category_id": label, "bbox": box, "score": float(random.integers(1, 12)) / 12}
                   for image, label, box in results]  # fmt: skip


def corners(bbox: list[float]) -> list[float]:
    return [bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3]]


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("year", [2007, 2012])
@pytest.mark.parametrize("iou", [0.5, 0.3, 0.75])
def test_equals_the_definition(tmp_path: Path, year: int, iou: float, inclusive: bool) -> None:
    for seed in range(20):
        truth, results = random_case(seed)
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        found = evaluate.voc(results, tmp_path / "truth.json", year=year, iou=iou, inclusive=inclusive)
        expected = []
        for label in range(CLASSES):
            objects: dict[int, list[Any]] = {}
            for a in truth["annotations"]:
                if a["category_id"] == label:
                    objects.setdefault(a["image_id"], []).append([*corners(a["bbox"]), a["iscrowd"]])
            detections = [
                [r["image_id"], r["score"], *corners(r["bbox"])] for r in results if r["category_id"] == label
            ]
            positives = sum(not box[4] for boxes in objects.values() for box in boxes)
            verdicts = reference.judged(objects, detections, iou, float(inclusive))
            expected.append(reference.average_precision(verdicts, positives, year) if positives else -1.0)
        assert list(found["classes"].values()) == pytest.approx(expected, abs=1e-12)
        assert found["mAP"] == pytest.approx(np.mean([value for value in expected if value >= 0]), abs=1e-12)


def test_by_hand(tmp_path: Path) -> None:
    """Three objects, one difficult; the detections are right, wrong, ignored, twice, right."""
    boxes = [[0, 0, 10, 10], [20, 0, 10, 10], [40, 0, 10, 10]]
    truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "cell"}],
             "annotations": [{"image_id": 1, "category_id": 1, "bbox": box, "iscrowd": int(box[0] == 20)}
                             for box in boxes]}  # fmt: skip
    given = [boxes[0], [70, 0, 10, 10], boxes[1], boxes[0], boxes[2]]
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9 - 0.1 * n} for n, box in enumerate(given)]
    (tmp_path / "a.json").write_text(json.dumps(truth))
    # The precision is 1 up to recall 1/2 and 2/4 up to recall 1.
    assert evaluate.voc(results, tmp_path / "a.json")["mAP"] == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    by_levels = evaluate.voc(results, tmp_path / "a.json", year=2007)
    assert by_levels == {"mAP": pytest.approx((6 * 1 + 5 * 0.5) / 11), "classes": {"cell": by_levels["mAP"]}}


def test_an_overlap_of_exactly_the_threshold_is_none(tmp_path: Path) -> None:
    truth = {"images": [{"id": 1}], "categories": [{"id": 1}],
             "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(truth))
    half = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 5], "score": 1}]
    assert evaluate.voc(half, tmp_path / "a.json", iou=0.5)["mAP"] == 0
    assert evaluate.voc(half, tmp_path / "a.json", iou=0.49)["mAP"] == 1
    # 11 * 6 of 11 * 11 pixels, if the last row and column belong to the boxes
    assert evaluate.voc(half, tmp_path / "a.json", iou=0.54, inclusive=True)["mAP"] == 1


def test_detections_data_sets_and_nothing(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    found = truth_as_detections(data)
    assert evaluate.voc(found, data, year=2007) == {"mAP": 1, "classes": {"cell": 1, "disc": 1}}
    assert evaluate.voc([d[:0] for d in found], data)["mAP"] == 0
    nothing = evaluate.voc(
        [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())] * 6, dataset(tmp_path, annotations=[])
    )
    assert nothing == {"mAP": -1, "classes": {"cell": -1, "disc": -1}}


def test_classes_of_one_name(tmp_path: Path) -> None:
    truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}],
             "annotations": [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 10, 10]}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(truth))
    assert evaluate.voc([], tmp_path / "a.json")["classes"] == {"a (id 1)": -1, "a (id 2)": 0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"year": 2010}, "year must be 2007 or 2012, got 2010"), ({"iou": 1.0}, "iou must be"),
     ({"iou": "0.5"}, "iou must be"), ({"iou": float("nan")}, "iou must be")],
)  # fmt: skip
def test_bad_input_is_named(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        evaluate.voc([], dataset(tmp_path), **wrong)
