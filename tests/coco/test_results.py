"""Result files: what is scored, what is left out with a line, what is refused; and random mutations."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from pyrcnn import InputError, evaluate
from tests.fuzz import annotations as fuzz

from .files import BOXES, FOUND, content, opened


@pytest.mark.parametrize(
    ("change", "message"),
    [({"score": None}, "got no score"), ({"score": "high"}, "finite number as score"), ({"score": True}, "as score"),
     ({"score": float("nan")}, "finite number as score"), ({"score": 10**400}, "finite number as score"),
     ({"bbox": [1, 2, 3]}, "usable box"), ({"bbox": [10**400] * 4}, "not finite"), ({"bbox": None}, "got no bbox"),
     ({"bbox": [9, 9, -4, 4]}, "positive sides"), ({"image_id": [1]}, "image_id of the annotations"),
     ({"image_id": 99}, "image_id of the annotations, got 99"), ({"category_id": {}}, "category_id of the annotations"),
     ({"category_id": 5}, r"category_id of the annotations \(1 cell\), got 5")],
)  # fmt: skip
def test_results_that_cannot_be_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Any, message: str
) -> None:
    opened(tmp_path, content())
    (tmp_path / "r.json").write_text(json.dumps([FOUND[0] | change]))
    with pytest.raises(InputError, match=rf"detections entry 0 .*{message}.*r\.json"):  # no entry is left
        evaluate.coco(tmp_path / "r.json", tmp_path / "a.json")
    (tmp_path / "r.json").write_text(json.dumps([*FOUND, FOUND[0] | change, "text", 7]))
    assert evaluate.coco(tmp_path / "r.json", tmp_path / "a.json")["AP"] == pytest.approx(1)
    assert "detections entry 3" in caplog.text
    assert "entry skipped: 3" in caplog.text


def test_results_as_text_numbers_and_from_masks(tmp_path: Path) -> None:
    opened(tmp_path, content())
    x, y, w, h = BOXES[0]
    drawn = {
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        "score": "0.9",
        "image_id": "1",
        "category_id": 1.0,
    }
    texts = FOUND[1] | {"bbox": [str(v) for v in BOXES[1]]}
    assert evaluate.coco([drawn, texts, FOUND[2]], tmp_path / "a.json")["AP"] == pytest.approx(1)


def test_an_empty_box_is_a_detection_that_matches_nothing(tmp_path: Path) -> None:
    dataset = opened(tmp_path, content())
    empty = {"image_id": 1, "category_id": 1, "bbox": [2, 2, 0, 0], "score": 0.99}
    assert evaluate.coco([empty, *FOUND], dataset)["AP"] == pytest.approx(0.75)


@pytest.mark.parametrize("results", [None, 3, "none.json", {"image_id": 1}, {"annotations": 1}])
def test_what_is_no_list_of_results(tmp_path: Path, results: Any) -> None:
    with pytest.raises(InputError, match=r"^detections must be"):
        evaluate.coco(results, opened(tmp_path, content()))


def test_random_mutations_give_a_report_or_an_input_error(tmp_path: Path) -> None:
    counts = fuzz.run(60, 1, tmp_path)
    assert counts["with a report"] > 5
    assert counts["refused"] > 5
    assert logging.getLogger("pyrcnn").propagate
