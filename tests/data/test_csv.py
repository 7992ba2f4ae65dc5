"""Data sets in CSV files: names of columns, rows, splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pyrcnn import InputError, data


def csv_file(folder: Path, text: str, **options: Any) -> data.CocoDataset:
    for name in ("a", "b"):
        Image.new("RGB", (64, 48)).save(folder / f"{name}.png")
    (folder / "t.csv").write_text(text, encoding=options.pop("encoding", "utf-8"))
    return data.csv(folder / "t.csv", **options)


@pytest.mark.parametrize(
    ("text", "options"),
    [("image,xmin,ymin,xmax,ymax,label\na.png,3,5,20,30,cat", {}),
     ("Label;Y1;X1;Y2;X2;Image ID\ncat;5;3;30;20;a", {}),
     ("path\tx\ty\twidth\theight\tclass\na.png\t3\t5\t17\t25\tcat", {}),
     ("filename,width,height,class,xmin,ymin,xmax,ymax\na.png,64,48,cat,3,5,20,30", {}),
     ('"image", "bbox_x", "bbox_y", "bbox_w", "bbox_h", "name"\r\n"a.png", 3, 5, 17, 25, "cat"\r\n', {}),
     ("a.png,3,5,20,30,cat", {}), ("/content/data/a.png,3,5,20,30,cat", {}), ("C:\\data\\a.png,3,5,20,30,cat", {}),
     ("ImageID,LabelName,XMin,XMax,YMin,YMax\na,cat,0.046875,0.3125,0.10416666666666667,0.625", {"normalized": True}),
     ("TRAIN,gs://bucket/a.png,cat,0.046875,0.10416666666666667,,,0.3125,0.625,,", {}),
     ("image,xmin,ymin,xmax,ymax,label\na.png,3,5,20,30,cat", {"encoding": "utf-8-sig"}),
     ("a.png,3,5,20,30,cat", {"encoding": "utf-8-sig"}),
     ("VALIDATION,b.png,dog,0,0,,,1,1,,\nTRAINING,a.png,cat,0.046875,0.10416666666666667,,,0.3125,0.625,,",
      {"split": "train"})],
)  # fmt: skip
def test_csv_columns(tmp_path: Path, text: str, options: dict[str, Any]) -> None:
    dataset = csv_file(tmp_path, text, **options)
    assert not dataset.report
    assert (len(dataset), dataset.classes) == (1, ["cat"])
    assert dataset.targets(0).boxes[0].tolist() == pytest.approx([3, 5, 20, 30], abs=1e-5)


def test_csv_rows(tmp_path: Path) -> None:
    rows = ["b.png,,,,,", "a.png,1,1,9,9,dog", "a.png,1,1,x,9,dog", "a.png,1,1,9,9,", "a.png,9,9,9,9,cat", "a.png,1,1",
            "c.png,1,1,9,9,cat", "../a.png,1,1,9,9,cat", "a.png,2,2,9,9,cat"]  # fmt: skip
    dataset = csv_file(tmp_path, "\n".join(rows))
    assert [r.path.name for r in dataset.records] == ["b.png", "a.png"]
    assert dataset.targets(1).labels.tolist() == [1, 0, 0]  # the third by the last part of its path
    places = [p.where for p in dataset.report.problems]
    assert places[:4] == [f"annotation row {n} of a.png" for n in (3, 4, 5, 6)]
    assert "c.png: the file is missing" in str(dataset.report)
    assert len(dataset.report) == 5
    chosen = csv_file(tmp_path, "\n".join(rows), classes=["dog"])
    assert (chosen.classes, chosen.targets(1).labels.tolist()) == (["dog"], [0])


def test_csv_crowds_areas_and_splits(tmp_path: Path) -> None:
    text = ("image,split,xmin,ymin,xmax,ymax,class,IsGroupOf,area\na.png,train,1,1,9,9,cat,1,50\n"
            "b.png,val,1,1,9,9,dog,0,\nb.png,val,1,1,9,8,dog,-1,\nb.png,val,1,1,9,9,dog,9,\n")  # fmt: skip
    dataset = csv_file(tmp_path, text)
    assert [t.crowd.tolist() for t in (dataset.targets(0), dataset.targets(1))] == [[True], [False, False]]
    assert [a["area"] for a in dataset.ground_truth()["annotations"]] == [50, 64, 56]
    assert "iscrowd must be 0 or 1, got '9'" in str(dataset.report)
    assert [r.path.name for r in data.open(tmp_path / "t.csv", prefer=["val"]).records] == ["b.png"]
    with pytest.raises(InputError, match="split must be one of train, val"):
        csv_file(tmp_path, text, split="test")


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "must hold rows"),
     ("a,b\n1,2", "must begin with the names"), ("image,xmin\na.png,1", "must have the columns"),
     ("a,b,c,d,e,f", "must begin with the names"), ("image,x1,y1,x2,y2,class\n" + "x" * 200_000, "must be a CSV file"),
     ("image,x1,y1,x2,y2,class\na.png,1,2,3,4,cat\0", "at least one|CSV file")],
)  # fmt: skip
def test_csv_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        csv_file(tmp_path, text, classes=[])
