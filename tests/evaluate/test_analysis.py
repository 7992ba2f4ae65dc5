"""The parts of an evaluation: per class, matches, mistakes, confusion, score curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyrcnn import InputError, evaluate
from pyrcnn.evaluate.matches import KINDS
from tests.detector import dataset

from .files import FIXTURES, truth_as_detections

TRUTH = FIXTURES / "coco_tiny_val2017_gt.json"
FOUND = FIXTURES / "coco_tiny_val2017_centernet_dt.json"


def file(tmp_path: Path, objects: list[Any], names: str = "ab", crowds: tuple[int, ...] = ()) -> Path:
    """Write an annotation file of one image; an object is (label, x, y, width, height)."""
    content = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
        "annotations": [{"image_id": 1, "category_id": label, "bbox": box, "iscrowd": int(n in crowds)}
                        for n, (label, *box) in enumerate(objects)],
    }  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return tmp_path / "truth.json"


def results(*found: Any) -> list[dict[str, Any]]:
    """Return detections (label, score, x, y, width, height) of image 1."""
    return [{"image_id": 1, "category_id": label, "score": score, "bbox": box} for label, score, *box in found]


def test_each_class_has_the_numbers_of_a_file_with_it_alone(tmp_path: Path) -> None:
    truth, found = json.loads(TRUTH.read_text()), json.loads(FOUND.read_text())
    whole = evaluate.analyze(FOUND, TRUTH)
    assert whole.scores == pytest.approx(evaluate.coco(FOUND, TRUTH), abs=1e-14)
    assert len(whole.classes) > 5
    assert np.mean([c.scores["AP"] for c in whole.classes]) == pytest.approx(whole.scores["AP"])
    ids = {c["name"]: c["id"] for c in truth["categories"]}
    for c in whole.classes[::8]:
        mine = [a for a in truth["annotations"] if a["category_id"] == ids[c.name]]
        own = evaluate.score(truth | {"annotations": mine}, [r for r in found if r["category_id"] == ids[c.name]])
        expected = {name: own[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")} | {"AR": own["AR100"]}
        assert c.scores == pytest.approx(expected, abs=1e-12)
        assert (c.objects, c.images) == (len([a for a in mine if not a["iscrowd"]]),
                                         len({a["image_id"] for a in mine if not a["iscrowd"]}))  # fmt: skip


def test_curves_are_pycocotools(tmp_path: Path) -> None:
    found = evaluate.analyze(FOUND, TRUTH, per_image=False)
    assert found.precision.shape == found.thresholds.shape == (10, 101, len(found.classes), 4)
    assert found.recall.shape == (10, len(found.classes), 4)
    assert found.sizes == ("all", "small", "medium", "large")
    for k, c in enumerate(found.classes):
        assert found.precision[0, :, k, 0].mean() == pytest.approx(c.scores["AP50"])
    assert (found.images, found.confusion) == ([], None)


def test_every_kind_of_mistake(tmp_path: Path) -> None:
    truth = file(tmp_path, [(0, 0, 0, 10, 10), (0, 50, 0, 10, 10), (1, 100, 0, 10, 10), (1, 0, 100, 20, 20),
                            (0, 200, 200, 50, 50)], crowds=(4,))  # fmt: skip
    found = results(
        (0, 0.9, 0, 0, 10, 10),  # right
        (0, 0.8, 0, 1, 10, 10),  # a second time
        (0, 0.7, 56, 0, 10, 10),  # IoU 0.25
        (0, 0.6, 100, 0, 10, 10),  # is b
        (1, 0.5, 300, 300, 9, 9),  # nothing there
        (0, 0.45, 210, 210, 5, 5),  # in the crowd
        (1, 0.2, 0, 100, 20, 20),  # right, but below the score
    )
    whole = evaluate.analyze(found, truth, score=0.3)
    mistakes = [(m.kind, m.label, m.score, m.true_label, round(m.iou, 2)) for m in whole.mistakes()]
    assert mistakes == [
        ("false positive", 1, 0.5, None, 0), ("missed", 1, None, None, 0), ("missed", 0, None, None, 0),
        ("missed", 1, None, None, 0), ("wrong class", 0, 0.6, 1, 1), ("badly placed", 0, 0.7, 0, 0.25),
        ("found twice", 0, 0.8, 0, 0.82),
    ]  # fmt: skip
    assert {kind for kind, *_ in mistakes} == set(KINDS)
    # Rows: a, b, none; columns: detected as a, as b, not detected.
    assert whole.confusion is not None
    assert whole.confusion.tolist() == [[1, 0, 1], [1, 0, 1], [2, 1, 0]]
    (image,) = whole.images
    assert (image.objects >= 0).sum() == 2 + 1  # the crowd's too
    assert image.ignored.sum() == 1
    assert [m.kind for m in evaluate.analyze(found, truth, score=0.1).mistakes()].count("missed") == 2


def test_the_score_curve_counts_what_is_above_each_score(tmp_path: Path) -> None:
    whole = evaluate.analyze(FOUND, TRUTH)
    for label in (None, whole.classes[3].label):
        curve = whole.score_curve(label)
        objects = sum(c.objects for c in whole.classes if label in (None, c.label))
        for n in range(0, len(curve.scores), 1 + len(curve.scores) // 20):
            right = wrong = 0
            for image in whole.images:
                for row in range(len(image.labels)):
                    if label in (None, image.labels[row]) and image.scores[row] >= curve.scores[n]:
                        right += not image.ignored[row] and image.objects[row] >= 0
                        wrong += not image.ignored[row] and image.objects[row] < 0
            assert curve.precision[n] == pytest.approx(right / (right + wrong))
            assert curve.recall[n] == pytest.approx(right / objects)
            assert curve.f1[n] == pytest.approx(2 * right / (objects + right + wrong))
        assert (np.diff(curve.scores) < 0).all()


def test_keypoints() -> None:
    found, truth = FIXTURES / "keypoints_1image_dt.json", FIXTURES / "keypoints_1image_gt.json"
    whole = evaluate.analyze(found, truth, keypoints=True)
    assert whole.scores == pytest.approx(evaluate.coco(found, truth, keypoints=True), abs=1e-14)
    assert whole.sizes == ("all", "medium", "large")
    (person,) = whole.classes
    assert person.scores == {n: whole.scores[n] for n in ("AP", "AP50", "AP75", "APm", "APl", "AR")}
    assert whole.confusion is None
    (image,) = whole.images
    assert image.keypoints is not None
    assert image.keypoints.shape == (len(image.boxes), 17, 3)
    found_by = image.found_by[~image.crowd]
    assert 0 < (found_by >= 0).sum() == ((image.objects >= 0) & ~image.ignored).sum()


def test_nothing_to_find_and_nothing_found(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    nothing = evaluate.analyze([], data)
    assert [c.scores["AP"] for c in nothing.classes] == [0, 0]
    assert [m.kind for m in nothing.mistakes()] == ["missed"] * 12
    assert len(nothing.score_curve().scores) == 0
    empty = dataset(tmp_path, annotations=[])
    found = evaluate.analyze(truth_as_detections(data), empty)
    assert (found.classes, set(found.scores.values())) == ([], {-1})
    assert [m.kind for m in found.mistakes()] == ["false positive"] * 12
    assert found.confusion is not None
    assert found.confusion[-1].tolist() == [6, 6, 0]


def test_bad_scores_are_named(tmp_path: Path) -> None:
    for score in ("high", float("nan"), None):
        with pytest.raises(InputError, match=r"^score must be a number"):
            evaluate.analyze([], dataset(tmp_path), score=score)
