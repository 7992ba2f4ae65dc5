"""Keypoints of any skeleton: in annotations, scores, flips and training."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset

from pyrcnn import InputError, Targets, data, evaluate, models, train
from pyrcnn.data.transforms import COCO_FLIP_PAIRS

from .files import ap, opened

JOINTS = [5, 5, 2, 9, 9, 1, 0, 0, 0]


def poses(**change: Any) -> dict[str, Any]:
    """Return a file with one object of three keypoints and one of another category without any."""
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 40, 40], "area": 1600, "iscrowd": 0,
              "keypoints": JOINTS, "num_keypoints": 2}  # fmt: skip
    ball = {"id": 2, "image_id": 1, "category_id": 2, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}
    categories = [{"id": 1, "name": "person", "keypoints": ["a", "b", "c"]}, {"id": 2, "name": "ball"}]
    image = {"id": 1, "file_name": "1.png", "width": 64, "height": 48}
    return {"images": [image], "annotations": [person | change, ball], "categories": categories}


POSE = [{"image_id": 1, "category_id": 1, "keypoints": JOINTS, "bbox": [2, 2, 40, 40], "score": 0.9}]


@pytest.mark.parametrize(
    "change",
    [{}, {"num_keypoints": None}, {"num_keypoints": "2"}, {"num_keypoints": 0}, {"keypoints": [str(v) for v in JOINTS]},
     {"keypoints": [[5, 5, 2], [9, 9, 1], [0, 0, 0]]}, {"keypoints": [*JOINTS[:6], 3.5, 9, 0]}, {"area": None}],
)  # fmt: skip
def test_keypoints_are_counted_and_box_only_objects_ignored(tmp_path: Path, change: dict[str, Any]) -> None:
    assert ap(tmp_path, poses(**change), POSE, keypoints=True, sigmas=[0.1] * 3) == [1, 1]
    source = poses(**change)
    source["annotations"].reverse()
    del source["annotations"][1]["num_keypoints"]
    assert ap(tmp_path, source, POSE, keypoints=True, sigmas=[0.1] * 3) == [1, 1]
    targets = opened(tmp_path, source).targets(0)
    assert targets.keypoints.tolist() == [[[0, 0, 0]] * 3, [[5, 5, 2], [9, 9, 1], [0, 0, 0]]]


@pytest.mark.parametrize("given", ["x", [1, 2], [None] * 9, [10**400] * 9, [1] * 10**5, {"x": 1}, True])
def test_keypoints_that_cannot_be_read_leave_the_box(tmp_path: Path, given: Any) -> None:
    dataset = opened(tmp_path, poses(keypoints=given))
    assert (len(dataset.targets(0)), dataset.report.problems[0].action) == (2, "keypoints ignored")
    with pytest.raises(InputError, match="annotations must hold keypoints"):
        evaluate.coco(POSE, tmp_path / "a.json", keypoints=True, sigmas=[0.1] * 3)


@pytest.mark.parametrize("names", [None, True, [], 7, "abc", ["x"] * 2000, [[1]], {}])
def test_without_names_the_keypoints_count_themselves(tmp_path: Path, names: Any) -> None:
    source = poses()
    source["categories"][0]["keypoints"] = names
    assert opened(tmp_path, source).keypoint_names == ["keypoint 1", "keypoint 2", "keypoint 3"]
    assert ap(tmp_path, source, POSE, keypoints=True, sigmas=[0.1] * 3) == [1, 1]


def test_skeletons_of_two_sizes(tmp_path: Path) -> None:
    source = poses()
    source["categories"][1]["keypoints"] = ["left", "right"]
    source["annotations"][1]["keypoints"] = [2, 2, 2, 4, 4, 2]
    assert opened(tmp_path, source).targets(0).keypoints[1].tolist() == [[2, 2, 2], [4, 4, 2], [0, 0, 0]]
    found = [*POSE, {"image_id": 1, "category_id": 2, "keypoints": [2, 2, 2, 4, 4, 2], "score": 0.9}]
    for count in (2, 3):
        assert ap(tmp_path, source, found, keypoints=True, sigmas=[0.1] * count) == [1, 1]
    with pytest.raises(InputError, match="sigmas must be 3, one per keypoint, got 17"):
        evaluate.coco(found, tmp_path / "a.json", keypoints=True)


@pytest.mark.parametrize(
    "sigmas", [[0.1, "x", 0.1], [0.1, 0, 0.1], [0.1, float("nan"), 1], [0.1, -1, 1], 0.1, "abc", [], [[1]]]
)
def test_sigmas_are_positive_numbers(tmp_path: Path, sigmas: Any) -> None:
    with pytest.raises(InputError, match=r"^sigmas must be positive numbers"):
        ap(tmp_path, poses(), POSE, keypoints=True, sigmas=sigmas)


def test_the_content_is_not_changed(tmp_path: Path) -> None:
    source, found = poses(), copy.deepcopy(POSE)
    before = json.dumps([source, found])
    evaluate.score(source, found)
    assert json.dumps([source, found]) == before


def test_memory_is_in_proportion_to_the_file(tmp_path: Path) -> None:
    source = poses()
    source["categories"][0]["keypoints"] = [str(i) for i in range(1000)]
    del source["annotations"][0]["keypoints"]
    source["annotations"] += [source["annotations"][0]] * 5000
    dataset = opened(tmp_path, source)
    targets = dataset.targets(0)
    assert targets.keypoints.shape == (5002, 1000, 3)
    assert targets.keypoints.untyped_storage().nbytes() < 100  # not 60 MB
    entries = [a["keypoints"] for a in dataset.ground_truth()["annotations"] if "keypoints" in a]
    assert len(entries) == 5001
    assert len({id(values) for values in entries}) == 1  # not 120 MB


# ---- flips and training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["nose", "left_eye", "right_eye"], ((1, 2),)),
        (["eye_right", "nose", "eye_left"], ((2, 0),)),
        (["l_eye", "r_eye"], ((0, 1),)),
        (["eye_l", "eye_r"], ((0, 1),)),
        (["LeftEye", "RightEye", "lEar", "rEar"], ((0, 1), (2, 3))),
        (["left front paw", "right-front paw"], ((0, 1),)),
        (["eye.L", "eye.R"], ((0, 1),)),
        (["lefteye", "righteye", "nose"], ((0, 1),)),
        (["tl", "tr", "br", "bl"], ((0, 1), (3, 2))),
        (["top_left", "top_right", "bottom_right", "bottom_left"], ((0, 1), (3, 2))),
        (["topLeft", "topRight"], ((0, 1),)),
        (["left_eye", "nose"], ()),
        (["l", "lr"], ()),
        (["head", "tail", "keypoint 3"], ()),
        ([], ()),
    ],
)
def test_pairs_come_from_names(names: list[str], pairs: tuple[tuple[int, int], ...]) -> None:
    assert data.flip_pairs(names) == pairs


def test_cocos_names_give_cocos_pairs() -> None:
    names = ("nose", *(f"{side}_{part}" for part in ["eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
                       for side in ("left", "right")))  # fmt: skip
    assert data.flip_pairs(names) == COCO_FLIP_PAIRS


def test_flips_need_pairs_only_for_keypoints_that_are_there() -> None:
    image, box = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.tensor([[1.0, 1, 4, 4]])
    flip = data.HorizontalFlip(1.0)
    unlabelled = Targets(box, torch.tensor([0]), torch.zeros(1, 4, 3))
    assert flip(image, unlabelled, torch.Generator())[1].boxes.tolist() == [[4, 1, 7, 4]]
    labelled = Targets(box, torch.tensor([0]), torch.ones(1, 4, 3))
    with pytest.raises(InputError, match="pairs must be the left-right pairs of 4 keypoints"):
        flip(image, labelled, torch.Generator())


def test_flips_drop_boxes_that_rounding_closes() -> None:
    image = torch.zeros(3, 8, 640, dtype=torch.uint8)
    thin = Targets(torch.tensor([[0.0, 0.0, 1e-6, 4.0], [1.0, 1.0, 4.0, 4.0]]), torch.tensor([0, 1]))
    assert data.HorizontalFlip(1.0)(image, thin, torch.Generator())[1].labels.tolist() == [1]


SMALL = {"num_classes": 1, "input_size": 64}
BOXES_ONLY = ("centernet_mobilenet_v2_fpn_512", SMALL), (
    "faster_rcnn_mobilenet_v2_fpn", {"num_classes": 1, "fpn_channels": 8, "min_size": 64, "roi": {"width": 8}}
)  # fmt: skip
QUICK = train.TrainConfig(out=None, epochs=1, batch_size=2, augment=(data.HorizontalFlip(1.0),))


def plates(names: Any, count: int, **change: Any) -> dict[str, Any]:
    """Return a file with one object of ``count`` keypoints, all labelled."""
    source = poses(keypoints=[6, 6, 2] * count, **change)
    source["categories"] = [{"id": 1, "name": "plate"} | ({} if names is None else {"keypoints": names})]
    source["annotations"].pop()
    return source


@pytest.mark.parametrize(("name", "changes"), BOXES_ONLY, ids=["centernet", "faster_rcnn"])
@pytest.mark.parametrize(("names", "count"), [(["p", "q", "r", "s"], 4), (None, 5), (["x"] * 17, 17), (None, 1)])
def test_box_detectors_train_on_any_skeleton(tmp_path: Path, name: str, changes: Any, names: Any, count: int) -> None:
    dataset = opened(tmp_path, plates(names, count))
    model = models.build(name, **changes)
    result = train.fit(model, dataset, dataset, QUICK, quiet=True)
    assert (result.steps, list(result.scores)) == (1, [*evaluate.BOX_NAMES, "AP/plate"])


POSES = "centernet_mobilenet_v2_fpn_512_kpts"


@pytest.mark.parametrize("change", [{}, {"num_keypoints": None}, {"area": None}])
def test_keypoints_are_scored_in_training(tmp_path: Path, change: dict[str, Any]) -> None:
    dataset = opened(tmp_path, plates([f"left_{i}" for i in range(17)], 17, **change))
    dataset = data.as_coco(ConcatDataset([dataset, dataset]))
    model = models.build(POSES, num_classes=1, input_size=64)
    augment = (data.HorizontalFlip(1.0, pairs=()),)
    result = train.fit(model, dataset, dataset, replace(QUICK, augment=augment), quiet=True)
    assert "keypoints_AP" in result.scores


def test_a_keypoint_detector_wants_its_own_skeleton(tmp_path: Path) -> None:
    four = opened(tmp_path, plates(["tl", "tr", "br", "bl"], 4))
    with pytest.raises(InputError, match=r"must have the model's 17 keypoints, got 4 \(tl, tr, br, bl\).*joints=4"):
        train.fit(models.build(POSES, num_classes=1, input_size=64), four, None, QUICK, quiet=True)
    model = models.build(POSES, num_classes=1, input_size=64, joints=4)
    train.fit(model, four, four, QUICK, quiet=True)  # tl and tr swap by their names
    renamed = opened(tmp_path, plates(["tr", "tl", "bl", "br"], 4))
    with pytest.raises(InputError, match="val_data must have the keypoints of train_data"):
        train.fit(model, four, renamed, QUICK, quiet=True)
    unknown = opened(tmp_path, plates(["p", "q", "r", "s"], 4))
    with pytest.raises(InputError, match="augment must tell which keypoints swap"):
        train.fit(model, unknown, None, QUICK, quiet=True)
    train.fit(model, unknown, None, replace(QUICK, augment=(data.HorizontalFlip(1.0, ()),)), quiet=True)


def test_the_class_with_keypoints_is_the_models(tmp_path: Path) -> None:
    source = plates([f"left_{i}" for i in range(17)], 17)
    source["categories"].append({"id": 0, "name": "car"})
    dataset = opened(tmp_path, source)  # plate has label 1
    model = models.build(POSES, num_classes=2, input_size=64)
    with pytest.raises(
        InputError, match=r"keypoints of the model's class 0 \(car\), got them of plate.*keypoint_class=1"
    ):
        train.fit(model, dataset, None, QUICK, quiet=True)


@pytest.mark.parametrize("names", [["a", "b"], ["b", "a", "c"]])
def test_joined_data_sets_have_the_same_keypoints(tmp_path: Path, names: list[str]) -> None:
    first = opened(tmp_path, poses())
    source = poses(keypoints=[5, 5, 2] * len(names))
    source["categories"][0]["keypoints"] = names
    with pytest.raises(InputError, match="must have the same keypoints"):
        data.as_coco(ConcatDataset([first, opened(tmp_path, source)]))
