"""Data sets in the YOLO format: places of images, rows of labels, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from pyrcnn import InputError, data


def yolo_files(folder: Path, rows: str | None = "1 0.5 0.5 0.25 0.5\n", **settings: Any) -> Path:
    """Write one image of 64x48 pixels with its labels, and ``data.yaml``."""
    for inner in ("images/train", "labels/train"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48)).save(folder / "images/train/a.png")
    if rows is not None:
        (folder / "labels/train/a.txt").write_text(rows)
    (folder / "data.yaml").write_text(yaml.safe_dump({"train": "images/train", "names": ["cat", "dog"]} | settings))
    return folder / "data.yaml"


@pytest.mark.parametrize(
    ("row", "box", "label"),
    [("1 0.5 0.5 0.25 0.5", [24, 12, 40, 36], 1), ("1.0 .5 5e-1 0.25 0.5 ", [24, 12, 40, 36], 1),
     ("0 0.25 0.5 0.5 0.25 0.75 0.75", [16, 12, 48, 36], 0), ("0 0.005 0.5 0.1 1.0", [0, 0, 3.52, 48], 0)],
)  # fmt: skip
def test_yolo_rows(tmp_path: Path, row: str, box: list[float], label: int) -> None:
    dataset = data.yolo(yolo_files(tmp_path, f"\n{row}\n"))
    targets = dataset.targets(0)
    assert targets.boxes[0].tolist() == pytest.approx(box, abs=1e-4)
    assert targets.labels.tolist() == [label]
    assert (dataset.classes, dataset.category_ids) == (["cat", "dog"], [0, 1])


@pytest.mark.parametrize(
    ("row", "what"),
    [("2 0.5 0.5 0.1 0.1", "category 2 does not exist"), ("-1 0.5 0.5 0.1 0.1", "does not exist"),
     ("0.5 0.5 0.5 0.1 0.1", "does not exist"), ("0 0.5 0.5 0.1", "got 4"), ("0 0.5 0.5 0.1 0.1 0.9", "got 6"),
     ("0", "got 1"), ("cat 0.5 0.5 0.1 0.1", "must be numbers"), ("0,0.5,0.5,0.1,0.1", "must be numbers"),
     ("0 nan 0.5 0.1 0.1", "must be numbers"), ("0 1e999 0.5 0.1 0.1", "must be numbers"),
     ("0 32 24 10 10", "fractions 0..1"), ("0 0.5 -0.5 0.1 0.1", "fractions 0..1"),
     ("0 0.5 0.5 0 0.1", "has no area"), ("1 0.5 0.5 0.25 0.5", "copy of a row above"),
     ("0 0.1 0.1 0.2 0.2 0.3 9", "fractions 0..1")],
)  # fmt: skip
def test_yolo_rows_that_cost_a_line(tmp_path: Path, row: str, what: str) -> None:
    dataset = data.yolo(yolo_files(tmp_path, f"1 0.5 0.5 0.25 0.5\n{row}\n"))
    assert len(dataset.targets(0)) == 1
    (problem,) = dataset.report.problems
    assert (problem.where, problem.action) == ("annotation row 2 of a.txt of a.png", "annotation skipped")
    assert what in problem.what


@pytest.mark.parametrize("rows", [None, "", "\n \n"])
def test_yolo_images_without_labels_are_background(tmp_path: Path, rows: str | None) -> None:
    file = yolo_files(tmp_path, rows)
    dataset = data.yolo(file)
    assert (len(dataset), len(dataset.targets(0))) == (1, 0)
    assert [p.action for p in dataset.report.problems] == ["noted"]  # no image has a box


def test_yolo_places(tmp_path: Path) -> None:
    file = yolo_files(tmp_path / "d")
    (tmp_path / "d/images/more/images").mkdir(parents=True)
    (tmp_path / "d/images/more/labels").mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(tmp_path / "d/images/more/images/b.png")
    (tmp_path / "d/images/more/labels/b.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "d/list.txt").write_text(f"./images/train/a.png\n\n{tmp_path}/d/images/more/images/b.png\nnone.png\n")
    places: tuple[Any, ...] = ("list.txt", ["images/train", "images/more"], "images", "../images", str(tmp_path / "d"))
    for place in places:
        dataset = data.yolo(yolo_files(tmp_path / "d", train=place))
        assert sorted(r.path.name for r in dataset.records) == ["a.png", "b.png"], place
        assert all(len(dataset.targets(i)) == 1 for i in range(2)), place
    (tmp_path / "d/lists").mkdir()
    (tmp_path / "d/lists/train.txt").write_text("images/train/a.png\n")  # relative to the root, as CVAT writes them
    assert len(data.yolo(yolo_files(tmp_path / "d", train="lists/train.txt"))) == 1
    assert "none.png: the file is missing" in str(data.yolo(yolo_files(tmp_path / "d", train="list.txt")).report)
    assert len(data.yolo(yolo_files(tmp_path / "d", path="images", train="train"))) == 1
    assert len(data.open(tmp_path / "d:train")) == len(data.open(file, prefer=["val", "train"])) == 1
    (tmp_path / "d/images/loop").symlink_to(tmp_path / "d/images")
    assert len(data.yolo(yolo_files(tmp_path / "d", train="images"))) == 2
    with pytest.raises(InputError, match="split must be one of train, got 'val'"):
        data.yolo(file, "val")
    with pytest.raises(InputError, match="file must list at least one image"):
        data.yolo(yolo_files(tmp_path / "d", train="nowhere"))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"names": None}, "names must be"), ({"names": "cat"}, "names must be"), ({"names": {"a": 1}}, "names must be"),
     ({"nc": 3}, "nc must be the number of names, 2"), ({"train": [1]}, "must name folders"),
     ({"path": "/none"}, "path must be a folder"), ({"path": 3}, "path must be a folder"),
     ({"kpt_shape": [2, 4]}, "kpt_shape"), ({"kpt_shape": 3}, "kpt_shape"),
     ({"kpt_shape": [3, 3], "flip_idx": [1, 2, 0]}, "flip_idx"), ({"kpt_shape": [3, 3], "flip_idx": [0]}, "flip_idx")],
)  # fmt: skip
def test_yolo_settings_that_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        data.yolo(yolo_files(tmp_path, **change))


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['true']", "a: [", "- 1", "\0", "[" * 1000])
def test_yaml_that_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=r"^file must") as raised:
        data.yolo(tmp_path / "data.yaml")
    assert str(raised.value).isprintable()


def test_classes_by_their_number(tmp_path: Path) -> None:
    assert data.yolo(yolo_files(tmp_path, names=None, nc=2)).classes == ["class 0", "class 1"]
    assert data.yolo(yolo_files(tmp_path, names={1: "dog", 0: "cat"}, nc=2)).classes == ["cat", "dog"]


def test_yolo_keypoints(tmp_path: Path) -> None:
    box, poses = "0 0.5 0.5 0.5 0.5", " 0.25 0.25 2 0.5 0.5 1 0 0 0"
    dataset = data.yolo(yolo_files(tmp_path, box + poses, kpt_shape=[3, 3], flip_idx=[0, 2, 1]))
    assert dataset.targets(0).keypoints.tolist() == [[[16, 12, 2], [32, 24, 1], [0, 0, 0]]]
    assert data.flip_pairs(dataset.keypoint_names) == ((1, 2),)
    flat = data.yolo(yolo_files(tmp_path, f"{box} 0.25 0.25 0 0 -1 -1\n{box}", kpt_shape=[3, 2]))
    assert flat.targets(0).keypoints.tolist() == [[[16, 12, 2], [0, 0, 0], [0, 0, 0]], [[0, 0, 0]] * 3]
    assert flat.keypoint_names == ["keypoint 1", "keypoint 2", "keypoint 3"]
    pairs = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    of_coco = data.yolo(yolo_files(tmp_path, box, kpt_shape=[17, 3], flip_idx=pairs))
    assert of_coco.keypoint_names[:3] == ["nose", "left_eye", "right_eye"]
    wrong = data.yolo(yolo_files(tmp_path, f"{box} 1 1\n{box} 0.1 0.1 2", kpt_shape=[3, 3]))
    assert len(wrong.targets(0)) == 1  # the extent of a polygon; seven numbers are nothing
    assert "must have 5 or 14 numbers" in str(wrong.report)


def test_yolo_fractions_are_of_the_upright_image(tmp_path: Path) -> None:
    file = yolo_files(tmp_path, "0 0.5 0.25 0.5 0.5")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(tmp_path / "images/train/a.png", exif=exif)
    image, targets = data.yolo(file)[0]
    assert image.shape == (3, 64, 48)
    assert targets.boxes.tolist() == [[12, 0, 36, 32]]
