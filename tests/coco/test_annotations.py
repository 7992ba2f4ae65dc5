"""Annotation files as exporters write them: one meaning for training and for scoring, or a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from pyrcnn import InputError, data, evaluate
from pyrcnn.data.segmentation import extent

from .files import FOUND, ap, content, opened

# ---- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [(0, 1, 2), (5, 5, 5), "xyz", (None, None, None), (7, 100, 3), (1.0, 2.0, 3.5), ([1], {}, True), (-1, 0, 10**40)],
)
def test_ids_of_annotations_mean_nothing_to_the_score(tmp_path: Path, ids: Any) -> None:
    source = content()
    for annotation, given in zip(source["annotations"], ids, strict=True):
        annotation["id"] = given
    assert ap(tmp_path, source, FOUND) == [1, 1]
    assert not opened(tmp_path, source).report
    for annotation in source["annotations"]:
        del annotation["id"]
    assert ap(tmp_path, source, FOUND) == [1, 1]


@pytest.mark.parametrize(
    ("listed", "named"), [(0, 0), ("a", "a"), (3, "3"), ("3", 3), (4, 4.0), (4.0, 4), (-2, "-2"), (10**30, 10**30)]
)
@pytest.mark.parametrize("field", ["image", "category"])
def test_ids_of_images_and_categories_may_be_numbers_or_texts(
    tmp_path: Path, field: str, listed: Any, named: Any
) -> None:
    source = content()
    source["images" if field == "image" else "categories"][0]["id"] = listed
    for annotation in source["annotations"]:
        annotation[f"{field}_id"] = named
    found = [entry | {f"{field}_id": listed} for entry in FOUND]
    assert ap(tmp_path, source, found) == [1, 1]


def test_ids_of_several_types_live_together(tmp_path: Path) -> None:
    source = content()
    source["categories"] = [{"id": "7", "name": "text"}, {"id": 7, "name": "number"}, {"id": 0, "name": "zero"}]
    for annotation, category in zip(source["annotations"], ("7", 7, 0), strict=True):
        annotation["category_id"] = category
    dataset = opened(tmp_path, source)
    assert dataset.classes == ["zero", "number", "text"]
    assert dataset.targets(0).labels.tolist() == [2, 1, 0]
    assert ap(tmp_path, source) == [1, 1]


@pytest.mark.parametrize("wrong", [None, [1], {}, True, 1.5, "1.5", "one", 2, float("nan"), "01"])
@pytest.mark.parametrize("field", ["image_id", "category_id"])
def test_an_id_that_names_nothing_costs_its_annotation_alone(tmp_path: Path, field: str, wrong: Any) -> None:
    dataset = opened(tmp_path, content(**{field: wrong}))
    assert len(dataset.targets(0)) == 2
    assert [p.action for p in dataset.report.problems] == ["annotation skipped"]
    assert ap(tmp_path, content(**{field: wrong}), FOUND[1:]) == [1, 1]


@pytest.mark.parametrize("lists", ["images", "categories"])
def test_an_id_of_two_names_is_not_guessed(tmp_path: Path, lists: str) -> None:
    source = content()
    source[lists].append(dict(source[lists][0]))
    assert len(opened(tmp_path, source).targets(0)) == 3  # the same entry twice
    source[lists].append({"id": 1, "file_name": "other.png", "name": "other"})
    with pytest.raises(InputError, match=r"the id is that of '(1\.png|cell)', 'other"):
        opened(tmp_path, source)


# ---- fields of other types -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"bbox": ["2", "2", "10", "10"]}, {"bbox": [2.0, "2.0", 1e1, "1e1"]}, {"area": None}, {"area": "100"},
     {"area": []}, {"area": -1}, {"area": 10**400}, {"area": float("nan")}, {"iscrowd": None}, {"iscrowd": "0"},
     {"iscrowd": False},
     {"iscrowd": 0.0}, {"segmentation": None}, {"segmentation": "x"}, {"segmentation": [[1, None]]}],
)  # fmt: skip
def test_certain_values_are_used(tmp_path: Path, change: dict[str, Any]) -> None:
    dataset = opened(tmp_path, content(**change))
    assert dataset.targets(0).boxes[0].tolist() == [2, 2, 12, 12]
    assert not dataset.targets(0).crowd.any()
    assert dataset.ground_truth()["annotations"][0]["area"] == 100
    assert ap(tmp_path, content(**change), FOUND) == [1, 1]


@pytest.mark.parametrize(
    "change",
    [{"bbox": None}, {"bbox": [2, 2, 10]}, {"bbox": "2 2 10 10"}, {"bbox": {"x": 2}}, {"bbox": [2, 2, None, 10]},
     {"bbox": [2, 2, True, 10]}, {"bbox": [10**400] * 4}, {"bbox": [float("inf"), 0, 1, 1]}, {"bbox": [1e300, 0, 1, 1]},
     {"bbox": ["2,5", 2, 10, 10]}, {"bbox": [12, 12, -10, -10]}, {"bbox": [2, 2, 0, 5]}, {"bbox": [2, 2, 1e-300, 5]},
     {"iscrowd": 2}, {"iscrowd": [0]}, {"iscrowd": "maybe"}],
)  # fmt: skip
def test_uncertain_values_cost_their_annotation_and_a_line(tmp_path: Path, change: dict[str, Any]) -> None:
    dataset = opened(tmp_path, content(**change))
    assert len(dataset.targets(0)) == 2
    problem = dataset.report.problems[0]
    assert (len(dataset.report), problem.where, problem.action) == (1, "annotation 1 of 1.png", "annotation skipped")
    assert ap(tmp_path, content(**change), FOUND[1:]) == [1, 1]


def test_the_file_is_scored_with_the_same_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = [p for p in str(opened(tmp_path, content(bbox=None)).report).splitlines() if p.startswith("  ")]
    caplog.clear()
    evaluate.coco(FOUND[1:], tmp_path / "a.json")
    assert [line for line in caplog.records[0].getMessage().splitlines() if line.startswith("  ")] == expected


@pytest.mark.parametrize("entry", [None, 1, "annotation", [], [[]]])
@pytest.mark.parametrize("lists", ["images", "annotations", "categories"])
def test_entries_that_are_no_objects(tmp_path: Path, lists: str, entry: Any) -> None:
    source = content()
    source[lists].append(entry)
    assert len(opened(tmp_path, source).report) == 1
    assert ap(tmp_path, source, FOUND) == [1, 1]


@pytest.mark.parametrize("area", [{}, {"area": None}, {"area": 0}])
def test_a_missing_area_is_that_of_the_segmentation(tmp_path: Path, area: dict[str, Any]) -> None:
    triangle = [[2, 2, 12, 2, 2, 12]]
    source = content(segmentation=triangle)
    del source["annotations"][0]["area"]
    source["annotations"][0] |= area
    assert opened(tmp_path, source).ground_truth()["annotations"][0]["area"] == 50


def test_boxes_of_segmentations(tmp_path: Path) -> None:
    drawn = np.zeros((48, 64), dtype=np.uint8, order="F")
    drawn[4:20, 30:41] = 1
    drawn[10, 30:50] = 1
    compressed = rle.encode(drawn)
    text = {"size": compressed["size"], "counts": compressed["counts"].decode()}
    runs = np.diff(np.flatnonzero(np.diff(np.r_[2, drawn.T.ravel(), 2])))  # of pixels of one value, down the columns
    for segmentation in (text, {"size": [48, 64], "counts": runs.tolist()}):
        assert extent(segmentation) == (rle.area(compressed), rle.toBbox(compressed).tolist())
    source = content(segmentation=text)
    del source["annotations"][0]["bbox"]
    assert opened(tmp_path, source).targets(0).boxes[0].tolist() == [30, 4, 50, 20]


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_equal_pycocotools(seed: int) -> None:
    drawn = np.asfortranarray(np.random.default_rng(seed).random((13, 17)) > (0.9, 0.5, 0.1, 0.99, 0.0)[seed], np.uint8)
    compressed = rle.encode(drawn)
    found = extent({"size": compressed["size"], "counts": compressed["counts"].decode()})
    assert found == (rle.area(compressed), rle.toBbox(compressed).tolist())


@pytest.mark.parametrize(
    "segmentation",
    [[], {}, [[]], [[1, 2, 3, 4]], [[0, 0, 1, 0, 1]], [[0, 0, 10**400, 0, 1, 1]], {"size": [2, 2], "counts": [1, 1]},
     {"size": [10**9, 10**9], "counts": [0, 10**18]}, {"size": [2, 2], "counts": [-1, 5]},
     {"size": [2, 2], "counts": "~~"}, {"size": [2, 2], "counts": "o" * 100},
     {"size": [2, 2], "counts": [4]}, {"size": None, "counts": None}, "text", 3],
)  # fmt: skip
def test_segmentations_that_draw_nothing(segmentation: Any) -> None:
    assert extent(segmentation) is None


# ---- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../1.png", "a/../../1.png", "..", ".", "../in2/1.png", "/etc/passwd", "a\0b", "\ud800", "", " ", None, 7, []],
)
def test_images_stay_below_their_folder(tmp_path: Path, name: Any) -> None:
    for folder in (tmp_path / "in", tmp_path / "in2"):
        folder.mkdir()
        Image.new("RGB", (64, 48)).save(folder / "1.png")
    Image.new("RGB", (64, 48)).save(tmp_path / "1.png")
    source = content()
    source["images"].append({"id": 2, "file_name": name})
    dataset = opened(tmp_path / "in", source)
    assert len(dataset) == 1
    assert [p.action for p in dataset.report.problems] == ["image skipped"]
    assert str(dataset.report.problems[0]).isprintable()
    source["images"].pop(0)
    with pytest.raises(InputError, match="at least one usable image"):
        opened(tmp_path / "in", source)


def test_subfolders_are_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "a/1.png")
    for name in ("a/1.png", "./a/1.png", "a/../a/1.png", "a//1.png", str(tmp_path / "a/1.png")):
        source = content()
        source["images"][0]["file_name"] = name
        assert len(opened(tmp_path, source)) == 1


@pytest.mark.parametrize("side", ["64", 64.0, None, [], 10**400, -1, "wide", float("nan")])
def test_the_stated_size_may_be_of_any_type(tmp_path: Path, side: Any) -> None:
    source = content()
    source["images"][0]["width"] = side
    dataset = opened(tmp_path, source)
    assert (dataset.records[0].size, len(dataset.report)) == ((48, 64), 0)


@pytest.mark.parametrize("box", [[-20, 5, 10, 10], [64, 0, 5, 5], [0, 48, 5, 5], [1000, 1000, 1, 1]])
def test_boxes_outside_the_image_are_scored_and_not_learnt(tmp_path: Path, box: list[int]) -> None:
    dataset = opened(tmp_path, content(bbox=box))
    assert len(dataset.targets(0)) == 2
    assert dataset.report.problems[0].action == "scored, but not trained on"
    assert ap(tmp_path, content(bbox=box)) == [1, 1]


def test_crowds_are_ignored_by_the_score(tmp_path: Path) -> None:
    for crowd in (1, True, "1", 1.0):
        source = content(iscrowd=crowd, segmentation={"size": [48, 64], "counts": [0, 10, 3062]})
        assert opened(tmp_path, source).targets(0).crowd.tolist() == [True, False, False]
        assert ap(tmp_path, source, FOUND) == [1, 1]
        assert ap(tmp_path, source, FOUND[1:]) == [1, 1]


# ---- whole files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [("[" * 200_000, "nested too deeply"), ("{", "valid JSON"), ("", "valid JSON"), ("\0", "valid JSON"),
     ('{"a": ' + "1" * 5000 + "}", "valid JSON"), ("null", "must hold"), ("[]", "must hold"),
     ('{"images": {}}', "must hold")],
)  # fmt: skip
def test_files_of_no_use_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "r.json").write_text("[]")
    for call in (lambda: data.coco(tmp_path, tmp_path / "a.json"), lambda: evaluate.coco([], tmp_path / "a.json"),
                 lambda: evaluate.coco(tmp_path / "r.json", tmp_path / "a.json")):  # fmt: skip
        with pytest.raises(InputError, match=message) as raised:
            call()
        assert str(raised.value).isprintable()
        assert "a.json" in str(raised.value)


def test_neither_folders_nor_missing_files_are_annotations(tmp_path: Path) -> None:
    for path, what in ((tmp_path, "a folder"), (tmp_path / "none.json", "missing"), ("/dev/zero", "no regular file")):
        with pytest.raises(InputError, match=f"must be a readable file, .*{what}"):
            evaluate.coco([], path)


def test_exporters_write_a_byte_order_mark_and_other_encodings(tmp_path: Path) -> None:
    opened(tmp_path, content())
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "a.json").write_text(json.dumps(content()), encoding=encoding)
        assert evaluate.coco(FOUND, tmp_path / "a.json")["AP"] == pytest.approx(1)
