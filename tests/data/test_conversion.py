"""``pyrcnn data convert``: every format holds what it can, the rest is told, and nothing is replaced unasked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from pyrcnn import data

from . import made
from .test_commands import run


def truth(dataset: data.CocoDataset) -> list[Any]:
    """Return what is scored and learnt, in the order of the images."""
    found = []
    for i, record in enumerate(dataset.records):
        objects, targets = record.objects, dataset.targets(i)
        names = [dataset.classes[label] for label in objects.labels]
        found.append([record.size, names, objects.boxes.round(6).tolist(), objects.crowd.tolist(),
                      objects.areas.round(5).tolist(), targets.boxes.tolist()])  # fmt: skip
    return found


@pytest.mark.parametrize("to", made.FORMATS)
@pytest.mark.parametrize("kind", made.FORMATS)
def test_every_format_becomes_every_other(monkeypatch, capsys, tmp_path: Path, kind: str, to: str) -> None:
    crowds = "yolo" not in (kind, to)
    source = made.write(tmp_path / "in", kind, made.pictures(crowds))
    assert run(monkeypatch, "data", "convert", source, tmp_path / "out", "--to", to, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    before, after = data.open(source), data.open(printed["written"])
    assert truth(after) == truth(before)
    assert not after.report
    first = {"coco": None, "voc": 1, "yolo": 0, "csv": 1}[to]
    same_ids = first is None or before.category_ids == [first, first + 1, first + 2]
    assert printed["lost"] == ([] if same_ids else ["ids of categories: 3"])
    for a, b in zip(before.records, after.records, strict=True):
        assert a.path.name == b.path.name
        assert a.path.read_bytes() == b.path.read_bytes()
    assert not [path for path in tmp_path.rglob("*.part")]


def rich(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write a COCO file with everything that COCO's format holds."""
    (folder / "images/a").mkdir(parents=True)
    for name in ("a/1.png", "1.png", "1.jpg"):
        Image.new("RGB", (64, 48)).save(folder / "images" / name)
    images = [{"id": i, "file_name": name, "width": 64, "height": 48, "license": 7, "date": "today"}
              for i, name in (("x", "a/1.png"), (5, "1.png"), (6, "1.jpg"))]  # fmt: skip
    categories = [{"id": 3, "name": "person & dog", "supercategory": "animal", "keypoints": ["left_eye", "right_eye"],
                   "skeleton": [[1, 2]]}, {"id": 9, "name": "ball"}, {"id": 11, "name": "none"}]  # fmt: skip
    polygon = [2.5, 2.0, 12.5, 2.0, 12.5, 14.0]
    annotations = [
        {"id": 1, "image_id": "x", "category_id": 3, "bbox": [2.5, 2.0, 10.0, 12.0], "area": 60.0, "iscrowd": 0,
         "segmentation": [polygon], "keypoints": [4.0, 5.0, 2.0, 0.0, 0.0, 0.0], "num_keypoints": 1},
        {"id": 2, "image_id": 5, "category_id": 9, "bbox": [0.5, 0.25, 10.0, 12.0], "area": 120.0, "iscrowd": 1,
         "attributes": {"wet": True}},
        {"id": 3, "image_id": 5, "category_id": 9, "bbox": [60.0, 40.0, 10.0, 12.0], "area": 120.0, "iscrowd": 0,
         "truncated": 1},
        {"id": 4, "image_id": 5, "category_id": 9, "bbox": [70.0, 40.0, 10.0, 12.0], "area": 120.0, "iscrowd": 0},
    ]  # fmt: skip
    content = {"info": {"year": 2026}, "licenses": [{"id": 7}], "images": images, "annotations": annotations,
               "categories": categories}  # fmt: skip
    file = folder / "a.json"
    file.write_text(json.dumps(content))
    return file, content


def test_coco_files_keep_every_field(monkeypatch, capsys, tmp_path: Path) -> None:
    file, content = rich(tmp_path / "in")
    assert run(monkeypatch, "data", "convert", file, tmp_path / "out", "--to", "coco", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["lost"] == []
    assert json.loads(Path(printed["written"]).read_text()) == content
    left = ("data", "convert", file, tmp_path / "left", "--to", "coco", "--place", "leave")
    assert run(monkeypatch, *left) == 0
    assert os.listdir(tmp_path / "left") == ["annotations.json"]
    assert len(data.coco(tmp_path / "in/images", tmp_path / "left/annotations.json")) == 3


@pytest.mark.parametrize(
    ("to", "lost"),
    [("voc", {"segmentations: 1", "fields attributes of objects: 1", "areas that are not those of the boxes: 1",
              "keypoints of objects: 1", "classes without objects: 1", "ids of categories: 2",
              "folders and equal names of images: 2 renamed"}),
     ("yolo", {"segmentations: 1", "fields attributes of objects: 1", "fields truncated of objects: 1",
               "areas that are not those of the boxes: 1", "crowds (left out): 1", "boxes clipped to their images: 1",
               "boxes outside their images (left out): 1", "ids of categories: 3",
               "folders and equal names of images: 1 renamed"}),
     ("csv", {"segmentations: 1", "fields attributes of objects: 1", "fields truncated of objects: 1",
              "keypoints of objects: 1", "classes without objects: 1", "ids of categories: 2",
              "folders and equal names of images: 1 renamed"})],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_told(monkeypatch, capsys, tmp_path: Path, to: str, lost: set[str]) -> None:
    file, _ = rich(tmp_path / "in")
    assert run(monkeypatch, "data", "convert", file, tmp_path / "out", "--to", to) == 0
    printed = capsys.readouterr()
    told = printed.err.splitlines()
    assert {line.strip() for line in told[told.index(f"{to} does not hold:") + 1 :]} == lost
    after = data.open(printed.out.strip())
    assert len(after) == 3
    assert {*after.classes} >= {"person & dog", "ball"}
    person = next(r for r in after.records if r.path.name in ("1.png", "a_1.png") and r.objects.areas.tolist() != []
                  and after.classes[r.objects.labels[0]] == "person & dog")  # fmt: skip
    assert person.objects.boxes.tolist() == [pytest.approx([2.5, 2, 10, 12])]
    if to == "yolo":
        assert yaml.safe_load((tmp_path / "out/data.yaml").read_text())["flip_idx"] == [1, 0]
        assert after.keypoint_names == ["left_eye", "right_eye"]
        assert person.keypoints[0].tolist() == [pytest.approx([4, 5, 2]), [0, 0, 0]]
        return
    by_size = {len(r.objects.boxes): r for r in after.records}
    assert by_size[3].objects.crowd.tolist() == [True, False, False]
    assert by_size[3].objects.boxes[2].tolist() == [70, 40, 10, 12]
    if to == "csv":
        assert person.objects.areas.tolist() == [60]


def test_polygons_survive_in_yolo(monkeypatch, capsys, tmp_path: Path) -> None:
    file, content = rich(tmp_path / "in")
    content["categories"] = content["categories"][1:]
    content["annotations"] = [content["annotations"][0] | {"category_id": 9, "keypoints": [], "bbox": [2.5, 2, 10, 12]}]
    file.write_text(json.dumps(content))
    assert run(monkeypatch, "data", "convert", file, tmp_path / "yolo", "--to", "yolo") == 0
    assert "segmentations" not in capsys.readouterr().err
    assert run(monkeypatch, "data", "convert", tmp_path / "yolo", tmp_path / "out", "--to", "coco") == 0
    (found,) = json.loads((tmp_path / "out/annotations.json").read_text())["annotations"]
    assert found["segmentation"] == [pytest.approx(content["annotations"][0]["segmentation"][0])]
    assert found["area"] == pytest.approx(60)
    content["annotations"][0]["bbox"] = [2, 2, 11, 13]  # of whole pixels, as many files have it: the box is kept
    file.write_text(json.dumps(content))
    assert run(monkeypatch, "data", "convert", file, tmp_path / "boxes", "--to", "yolo") == 0
    assert "segmentations: 1" in capsys.readouterr().err
    (boxes,) = [r.objects.boxes.tolist() for r in data.open(tmp_path / "boxes").records if len(r.objects.boxes)]
    assert boxes == [pytest.approx([2, 2, 11, 13])]


def test_copies_of_objects_are_left_out_of_yolo(monkeypatch, capsys, tmp_path: Path) -> None:
    source = made.write(tmp_path / "in", "coco", made.pictures())
    content = json.loads(source.read_text())
    content["annotations"].append(content["annotations"][0])
    source.write_text(json.dumps(content))
    assert run(monkeypatch, "data", "convert", source, tmp_path / "out", "--to", "yolo") == 0
    assert "copies of objects: 1" in capsys.readouterr().err
    after = data.open(tmp_path / "out")
    assert not after.report
    assert len(after.records.objects.boxes) == len(content["annotations"]) - 1


def test_links_are_the_images_and_change_nothing(monkeypatch, capsys, tmp_path: Path) -> None:
    source = made.write(tmp_path / "in", "coco", made.pictures())
    images = sorted((tmp_path / "in/images").iterdir())
    for image in images:
        image.chmod(0o600)
    arguments = ("data", "convert", source, tmp_path / "out", "--to", "voc", "--place", "link")
    assert run(monkeypatch, *arguments) == 0
    assert all((tmp_path / "out/JPEGImages" / image.name).samefile(image) for image in images)
    assert {image.stat().st_mode & 0o777 for image in images} == {0o600}
    assert run(monkeypatch, *arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(monkeypatch, *arguments, "--overwrite") == 0


@pytest.mark.parametrize("to", made.FORMATS)
def test_nothing_is_replaced_unasked(monkeypatch, capsys, tmp_path: Path, to: str) -> None:
    source = made.write(tmp_path / "in", "voc", made.pictures())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    arguments = ("data", "convert", source, tmp_path / "in", "--to", "voc")
    for more in ((), ("--overwrite",)):  # the images are read
        assert run(monkeypatch, *arguments, *more) == 2
        error = capsys.readouterr().err
        assert error.startswith("pyrcnn: out: ")
        assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    arguments = ("data", "convert", source, tmp_path / "out", "--to", to)
    assert run(monkeypatch, *arguments) == 0
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert run(monkeypatch, *arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()} == written
    assert run(monkeypatch, *arguments, "--overwrite") == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [(("--to", "pascal"), "--to must be one of coco, voc, yolo, csv"),
     (("--to", "voc", "--place", "leave"), "copy or link"),
     (("--to", "voc", "--place", "x"), "--place must be one of"),
     (("--to", "voc", "--split", "../x"), "must be a name")],
)  # fmt: skip
def test_wrong_options_of_conversions(monkeypatch, capsys, tmp_path: Path, more: Any, message: str) -> None:
    source = made.write(tmp_path / "in", "coco", made.pictures())
    assert run(monkeypatch, "data", "convert", source, tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_names_that_a_format_cannot_hold_are_refused(monkeypatch, capsys, tmp_path: Path) -> None:
    file, content = rich(tmp_path / "in")
    content["categories"][0]["name"] = "a\x01b"
    file.write_text(json.dumps(content))
    assert run(monkeypatch, "data", "convert", file, tmp_path / "out", "--to", "voc") == 2
    assert "classes must be names that XML can hold" in capsys.readouterr().err
    assert run(monkeypatch, "data", "convert", file, tmp_path / "out", "--to", "yolo") == 0
    assert data.open(tmp_path / "out").classes[0] == "a\x01b"
    assert torch.equal(data.open(tmp_path / "out").image(0), data.open(file).image(0))
