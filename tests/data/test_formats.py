"""A data set means the same in every format, and the format is found out."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyrcnn import Detections, InputError, data, evaluate
from pyrcnn.data.formats import sources

from . import made
from .test_yolo import yolo_files


def batches_of(dataset: data.CocoDataset) -> list[Any]:
    transforms = (data.HorizontalFlip(), data.ScaleJitter())
    found, _ = data.batches(dataset, 2, transforms, seed=3, groups=data.aspect_groups(dataset))
    return [(images, targets) for images, targets in islice(found, 5)]


@pytest.mark.parametrize("crowds", [False, True])
def test_every_format_gives_the_same_batches_and_the_same_score(tmp_path: Path, crowds: bool) -> None:
    given = made.pictures(crowds)
    kinds = [kind for kind in made.FORMATS if not (crowds and kind == "yolo")]  # which has no crowds
    datasets = [made.opened(tmp_path / kind, kind, given) for kind in kinds]
    random = np.random.default_rng(0)
    found = []
    for p in given:
        boxes = torch.tensor([box for _, box, _ in p.objects], dtype=torch.float32).reshape(-1, 4)
        boxes += torch.from_numpy(random.normal(0, 1.5, boxes.shape)).float()
        boxes = torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)], 1)
        labels = torch.tensor([made.CLASSES.index(kind) for kind, *_ in p.objects], dtype=torch.int64)
        found.append(Detections(boxes, torch.from_numpy(random.random(len(labels))).float(), labels))
    scores = [evaluate.coco(found, dataset) for dataset in datasets]
    assert 0.1 < scores[0]["AP"] < 0.9
    for kind, dataset, score in zip(kinds, datasets, scores, strict=True):
        assert not dataset.report, kind
        assert (dataset.classes, len(dataset)) == (made.CLASSES, len(given))
        assert score == pytest.approx(scores[0], abs=1e-12), kind
        for (images, targets), (first_images, first) in zip(batches_of(dataset), batches_of(datasets[0]), strict=True):
            assert all(map(torch.equal, images, first_images)), kind
            for mine, theirs in zip(targets, first, strict=True):
                assert torch.equal(mine.labels, theirs.labels)
                assert torch.equal(mine.crowd, theirs.crowd)
                assert torch.allclose(mine.boxes, theirs.boxes, atol=1e-5)


def test_what_is_no_data_set_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("x")
    for path in ("none", "empty", "a.txt", "a.txt:train"):
        with pytest.raises(InputError, match="data must be a COCO file"):
            data.open(tmp_path / path)
    for name in ("a.json", "b.json"):
        (tmp_path / "empty" / name).write_text("{}")
    with pytest.raises(InputError, match=r"holds a\.json, b\.json: give one of them"):
        data.open(tmp_path / "empty")
    with pytest.raises(InputError, match="images must be the folder of the images"):
        data.open(tmp_path / "empty/a.json")
    with pytest.raises(InputError, match="images must not be given"):
        data.open(yolo_files(tmp_path / "y"), images=tmp_path)


def test_coco_files_find_their_images(tmp_path: Path) -> None:
    made.write(tmp_path / "d", "coco", made.pictures())
    content = (tmp_path / "d/a.json").read_text()
    (tmp_path / "d/annotations").mkdir()
    (tmp_path / "d/annotations/instances_some.json").write_text(content)
    assert len(data.open(tmp_path / "d/annotations/instances_some.json")) == 6
    (tmp_path / "d/images").rename(tmp_path / "d/some")
    assert len(data.open(tmp_path / "d/annotations/instances_some.json")) == 6
    with pytest.raises(InputError, match="has one file per split"):
        data.open(tmp_path / "d/a.json", tmp_path / "d/some", split="val")


def test_options_stand_behind_the_path(tmp_path: Path) -> None:
    voc = made.write(tmp_path / "voc", "voc", made.pictures())
    (voc / "ImageSets/Main").mkdir(parents=True)
    (voc / "ImageSets/Main/some.txt").write_text("im_1\nim_3\n")
    plain, moved = data.open(voc), data.open(f"{voc}:zero_based")
    assert torch.equal(moved.targets(0).boxes[:, 2:], plain.targets(0).boxes[:, 2:])
    assert torch.equal(moved.targets(0).boxes[:, :2], plain.targets(0).boxes[:, :2] + 1)
    for words in ("some,zero_based", "zero_based,some"):
        some = data.open(f"{voc}:{words}")
        assert [r.path.stem for r in some.records] == ["im_1", "im_3"]
        assert torch.equal(some.targets(0).boxes, moved.targets(1).boxes)
    rows = "image,xmin,ymin,xmax,ymax,label\nJPEGImages/im_0.png,0.25,0.25,0.5,0.75,cat"
    (tmp_path / "voc/t.csv").write_text(rows)
    assert data.open(f"{voc}/t.csv:normalized").targets(0).boxes.tolist() == [[16, 12, 32, 36]]
    with pytest.raises(InputError, match="must have options of its format, got normalized"):
        data.open(f"{voc}:normalized")
    with pytest.raises(InputError, match="split must be one"):
        data.open(f"{voc}:some,other")


def test_full_paths_keep_splits_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "voc").mkdir()
    monkeypatch.chdir(tmp_path)
    for given in ("voc", "voc:train", "voc:train,zero_based", "voc:zero_based", "none:train"):
        assert sources.absolute(given) == f"{tmp_path}/{given}"
