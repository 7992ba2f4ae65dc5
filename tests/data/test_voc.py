"""Data sets in Pascal VOC's format: coordinates, difficult objects, splits, and files as programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pyrcnn import InputError, data


def voc_file(folder: Path, name: str = "a", objects: str = "", head: str = "", **image: Any) -> Path:
    """Write ``Annotations/NAME.xml`` and, unless it is there, ``JPEGImages/NAME.png`` of 64x48 pixels."""
    for inner in ("Annotations", "JPEGImages"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    stem = image.get("stem", name)
    Image.new("RGB", (64, 48)).save(folder / "JPEGImages" / f"{stem}.png")
    text = f"{head}<annotation>{image.get('more', '')}{objects}</annotation>"
    (folder / "Annotations" / f"{name}.xml").write_text(text)
    return folder


def voc_object(name: str = "cell", box: Any = (3, 5, 20, 30), more: str = "") -> str:
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{sides}</bndbox></object>"


def test_vocs_pixels_count_from_one(tmp_path: Path) -> None:
    folder = voc_file(tmp_path, objects=voc_object() + voc_object(box=("2.5", " 1.0", "9.25", "7")))
    assert data.voc(folder).targets(0).boxes.tolist() == [[2, 4, 20, 30], [1.5, 0, 9.25, 7]]
    assert data.voc(folder, one_based=False).targets(0).boxes.tolist() == [[3, 5, 20, 30], [2.5, 1, 9.25, 7]]


def test_voc_objects_that_are_difficult_are_crowds(tmp_path: Path) -> None:
    marks = ["", "<difficult>0</difficult>", "<difficult>1</difficult>", "<difficult>Unspecified</difficult>",
             "<difficult>many</difficult>"]  # fmt: skip
    folder = voc_file(tmp_path, objects="".join(voc_object(more=mark) for mark in marks))
    dataset = data.voc(folder)
    assert dataset.targets(0).crowd.tolist() == [False, False, True, False]
    (problem,) = dataset.report.problems
    assert problem.where == "annotation a.xml object 5 of a.png"


def test_voc_objects_may_have_parts(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    dataset = data.voc(voc_file(tmp_path, objects=voc_object(more=part)))
    assert (len(dataset.targets(0)), dataset.classes) == (1, ["cell"])
    assert dataset.targets(0).boxes.tolist() == [[2, 4, 20, 30]]


@pytest.mark.parametrize("box", [("a", 1, 2, 3), ("", 1, 2, 3), (9, 9, 3, 3), ("inf", 1, 2, 3), (9, 1, 8, 20)])
def test_voc_boxes_that_are_none(tmp_path: Path, box: Any) -> None:
    dataset = data.voc(voc_file(tmp_path, objects=voc_object(box=box) + voc_object()))
    assert len(dataset.targets(0)) == 1
    assert [(p.where, p.action) for p in dataset.report.problems] == [
        ("annotation a.xml object 1 of a.png", "annotation skipped")
    ]


def test_voc_splits(tmp_path: Path) -> None:
    for name, kind in (("a", "disc"), ("b", "cell"), ("c d", "cell"), ("e", "emu")):
        voc_file(tmp_path, name, voc_object(kind))
    sets = tmp_path / "ImageSets/Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("b\nc d\n\nb\n")
    (sets / "cat_val.txt").write_text("a  -1\nb   1\n../../x 1\n")
    train = data.voc(tmp_path, "train")
    assert [r.path.name for r in train.records] == ["b.png", "c d.png"]
    assert train.classes == ["cell", "disc", "emu"]  # of all splits
    assert [p.action for p in train.report.problems] == ["noted"]
    other = data.voc(tmp_path, "cat_val")
    assert [r.path.name for r in other.records] == ["a.png", "b.png"]
    assert [str(p) for p in other.report.problems] == ["annotations ../../x.xml: the file is missing; image skipped"]
    assert len(data.voc(tmp_path)) == 4
    assert len(data.open(f"{tmp_path}:train")) == len(data.open(tmp_path, prefer=["trainval", "train"])) == 2
    with pytest.raises(InputError, match=r"split must be one of cat_val, train, got 'test'"):
        data.voc(tmp_path, "test")


def test_vocs_twenty_classes_keep_their_order(tmp_path: Path) -> None:
    folder = voc_file(tmp_path, objects=voc_object("tvmonitor") + voc_object("aeroplane"))
    dataset = data.voc(folder)
    assert (len(dataset.classes), dataset.targets(0).labels.tolist()) == (20, [19, 0])
    chosen = data.voc(folder, classes=["tvmonitor", "3"])
    assert (chosen.classes, chosen.targets(0).labels.tolist()) == (["tvmonitor", "3"], [0])
    assert "category {'name': 'aeroplane'} does not exist" in str(chosen.report)
    digits = voc_file(tmp_path / "digits", objects=voc_object("2") + voc_object("1"))
    assert data.voc(digits, classes=["2"]).targets(0).labels.tolist() == [0]  # "1" is no id


@pytest.mark.parametrize(
    ("head", "more"),
    [('<!DOCTYPE annotation [<!ENTITY a "aaaa">]>', "<filename>&a;</filename>"),
     ('<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "<filename>&a;</filename>"),
     ('<!DOCTYPE annotation [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>', ""),
     ("<annotation>", ""), ("", "<open>"), ("\0", ""), ("<!-- -->text", ""), ("", "&lol;")],
)  # fmt: skip
def test_xml_that_is_broken_or_hostile_costs_its_image(tmp_path: Path, head: str, more: str) -> None:
    voc_file(tmp_path, "b", voc_object())
    dataset = data.voc(voc_file(tmp_path, "a", voc_object("evil"), head, more=more))
    assert [r.path.name for r in dataset.records] == ["b.png"]
    (problem,) = dataset.report.problems
    assert (problem.where, problem.action) == ("annotations a.xml", "image skipped")
    assert dataset.classes == ["cell"]


def test_xml_as_programs_write_it_is_read(tmp_path: Path) -> None:
    head = '<?xml version="1.0" encoding="latin-1"?><!DOCTYPE annotation>\n<!-- by hand -->'
    folder = voc_file(tmp_path, objects=voc_object(" cell\n "), head=head)
    (folder / "Annotations/deep.xml").write_text("<annotation>" + "<a>" * 5000 + "</a>" * 5000 + "</annotation>")
    Image.new("RGB", (64, 48)).save(folder / "JPEGImages/deep.png")
    assert len(data.voc(folder).targets(0)) == 1


def test_the_image_is_that_of_the_stem_before_the_stated_one(tmp_path: Path) -> None:
    voc_file(tmp_path, "a", voc_object(), more="<filename>old name.jpg</filename>")
    voc_file(tmp_path, "b", voc_object(), more="<filename>B 1.png</filename>", stem="B 1")
    voc_file(tmp_path, "c", voc_object(), more="<filename>../../c.png</filename>", stem="z")
    voc_file(tmp_path, "d", voc_object(), more="<size><width>0</width><height/></size>")
    voc_file(tmp_path, "e", voc_object(), more="<filename>e.png</filename>")
    Image.new("RGB", (64, 48)).save(tmp_path / "JPEGImages/e.jpg")
    dataset = data.voc(tmp_path)
    assert [r.path.name for r in dataset.records] == ["a.png", "B 1.png", "d.png", "e.png"]
    assert [p.what for p in dataset.report.problems] == ["the file_name leads out of the folder of the images"]


def test_voc_files_beside_their_images(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        voc_file(tmp_path / split, "a", voc_object())
        for path in list((tmp_path / split).rglob("a.*")):
            path.rename(tmp_path / split / path.name)
            path.parent.rmdir()
    assert len(data.open(tmp_path, prefer=["val", "valid"])) == len(data.voc(tmp_path / "train")) == 1
    with pytest.raises(InputError, match=r"folder must be one data set, got .* VOC1, VOC2"):
        data.voc(voc_file(voc_file(tmp_path / "kit/VOC1").with_name("VOC2")).parent)
    with pytest.raises(InputError, match="folder must be a folder"):
        data.voc(tmp_path / "none")
