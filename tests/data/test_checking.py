"""``pyrcnn data check`` and ``pyrcnn data split``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyrcnn import data

from . import made
from .test_commands import run


def checked(monkeypatch: Any, capsys: Any, *arguments: Any) -> tuple[int, dict[str, Any]]:
    code = run(monkeypatch, "data", "check", *arguments, "--json")
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", made.FORMATS)
def test_a_faultless_data_set_is_described(monkeypatch, capsys, tmp_path: Path, kind: str) -> None:
    given = made.pictures()
    source = made.write(tmp_path / "d", kind, given)
    code, found = checked(monkeypatch, capsys, source, "--decode")
    assert (code, found["problems"], found["copies"]) == (0, [], 0)
    (numbers,) = found["data"]
    objects = [(kind_, box) for p in given for kind_, box, _ in p.objects]
    widths = [x2 - x1 for _, (x1, _, x2, _) in objects]
    assert (numbers["images"], numbers["objects"], numbers["images_without_objects"]) == (6, len(objects), 1)
    assert {c["name"]: c["objects"] for c in numbers["classes"]} == {
        name: sum(kind_ == name for kind_, _ in objects) for name in made.CLASSES
    }
    assert {c["name"]: c["images"] for c in numbers["classes"]} == {
        name: sum(any(kind_ == name for kind_, *_ in p.objects) for p in given) for name in made.CLASSES
    }
    assert numbers["box_width"]["median"] == pytest.approx(np.median(widths), abs=1e-3)
    assert (numbers["image_width"]["min"], numbers["image_width"]["max"], numbers["image_sizes"]) == (31, 90, 5)
    assert numbers["objects_per_image"]["max"] == 4
    assert sum(numbers["areas"].values()) == len(objects)
    assert run(monkeypatch, "data", "check", source) == 0
    assert "no problem found" in capsys.readouterr().out


def test_everything_wrong_is_found(monkeypatch, capsys, tmp_path: Path) -> None:
    given = made.pictures()
    source = made.write(tmp_path / "d", "coco", given)
    content = json.loads(source.read_text())
    box = content["annotations"][0]["bbox"]
    first = content["annotations"][0]
    near = [box[0], box[1], box[2] * 1.03, box[3]]
    content["annotations"] += [
        first | {"id": 900},
        first | {"id": 901, "bbox": near},
        first | {"bbox": None, "id": 902},
    ]
    content["annotations"] += [first | {"id": 903, "bbox": [1, 1, 500, 500]}]
    content["categories"].append({"id": 8, "name": "unused"})
    source.write_text(json.dumps(content))
    shutil.copy(tmp_path / "d/images/im_0.png", tmp_path / "d/images/im_4.png")
    damaged = tmp_path / "d/images/im_5.png"
    whole = damaged.read_bytes()
    at = whole.index(b"IDAT") + 30
    damaged.write_bytes(whole[:at] + bytes(30) + whole[at + 30 :])
    code, found = checked(monkeypatch, capsys, source, "--decode")
    assert code == 2
    said = [(p["what"], p["action"]) for p in found["problems"]]
    for what, action in (
        ("1 objects are copies of others", "copies kept"), ("overlap with IoU > 0.9", "noted"),
        ("bbox must be", "annotation skipped"), ("reaches outside", "box clipped"), ("it has no object", "noted"),
        ("the file is damaged", "image skipped"), ("the same content is in", "noted"),
    ):  # fmt: skip
        assert sum(what in w and action == a for w, a in said) == 1, what
    assert len(said) == 7
    assert checked(monkeypatch, capsys, source)[1]["data"][0]["problems"].get("image skipped") is None
    assert run(monkeypatch, "data", "check", source) == 2
    assert "copies kept: 1" in capsys.readouterr().out
    assert run(monkeypatch, "data", "check", tmp_path / "none") == 2


def test_images_of_two_data_sets_are_compared(monkeypatch, capsys, tmp_path: Path) -> None:
    first, second = (made.write(tmp_path / kind, kind, made.pictures()) for kind in ("coco", "voc"))
    assert checked(monkeypatch, capsys, first, second)[1]["copies"] == 6
    assert checked(monkeypatch, capsys, first, first)[1]["copies"] == 6


# ---- splits ----------------------------------------------------------------------------------------------------------


def large(folder: Path, images: int = 60) -> Path:
    """Write a data set with a frequent, a rare and a very rare class, in videos of six images."""
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    entries, annotations = [], []
    for n in range(images):
        name = f"video{n // 6}_{n:03d}.png"
        Image.new("RGB", (8, 8)).save(folder / "images" / name)
        entries.append({"id": n, "file_name": name, "extra": n})
        kinds = [1] * int(random.integers(1, 6)) + [2] * (n % 4 == 0) + [3] * (n % 20 == 0)
        annotations += [{"id": len(annotations) + i, "image_id": n, "category_id": kind, "bbox": [1, 1, 5, 5]}
                        for i, kind in enumerate(kinds)]  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in ((1, "often"), (2, "rare"), (3, "seldom"))]
    file = folder / "a.json"
    file.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": categories}))
    return file


def parts(folder: Path, images: Path) -> dict[str, data.CocoDataset]:
    return {file.stem: data.coco(images, file) for file in sorted(folder.glob("*.json"))}


def test_splits_have_equal_shares_of_each_class(monkeypatch, capsys, tmp_path: Path) -> None:
    source = large(tmp_path / "d")
    images = tmp_path / "d/images"
    fractions = ("--fractions", "0.6", "0.2", "0.2")
    assert run(monkeypatch, "data", "split", source, tmp_path / "a", *fractions) == 0
    found = parts(tmp_path / "a", images)
    assert list(found) == ["test", "train", "val"]
    names = [r.path.name for part in found.values() for r in part.records]
    assert len(names) == len({*names}) == 60
    whole = data.coco(images, source).records.objects.labels.bincount()
    for name, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        counts = found[name].records.objects.labels.bincount(minlength=3)
        assert abs(len(found[name]) - 60 * share) <= 4
        for label, slack in ((0, 6), (1, 1), (2, 1)):
            assert abs(counts[label] - whole[label] * share) <= slack, (name, label)
    assert json.loads((tmp_path / "a/val.json").read_text())["images"][0]["extra"] >= 0
    assert run(monkeypatch, "data", "split", source, tmp_path / "b", *fractions) == 0
    assert run(monkeypatch, "data", "split", source, tmp_path / "c", *fractions, "--seed", 1) == 0
    texts = [(tmp_path / folder / "train.json").read_text() for folder in "abc"]
    assert texts[0] == texts[1] != texts[2]
    assert run(monkeypatch, "data", "split", source, tmp_path / "a", *fractions) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(monkeypatch, "data", "split", source, tmp_path / "d", "--fractions", 1, 0, 0) == 0
    assert len(data.coco(images, tmp_path / "d/train.json")) == 60
    assert not (tmp_path / "d/val.json").exists()


def test_groups_stay_together(monkeypatch, capsys, tmp_path: Path) -> None:
    source = large(tmp_path / "d")
    arguments = ("data", "split", source, tmp_path / "a", "--fractions", "0.5", "0.3", "0.2")
    for expression in ("video[0-9]+", "(video[0-9]+)_.*"):
        assert run(monkeypatch, *arguments, "--group", expression, "--overwrite") == 0
        videos = [{r.path.name.split("_")[0] for r in part.records}
                  for part in parts(tmp_path / "a", tmp_path / "d/images").values()]  # fmt: skip
        assert sum(map(len, videos)) == len(set.union(*videos)) == 10
        assert all(videos)
    assert run(monkeypatch, *arguments, "--group", "(", "--overwrite") == 2
    assert "--group must be a regular expression" in capsys.readouterr().err
    for wrong in ((0.5, 0.5, 0.5), (-0.5, 1.5, 0), ("nan", 0, 0)):
        assert run(monkeypatch, "data", "split", source, tmp_path / "x", "--fractions", *wrong) == 2
        assert "--fractions must be numbers from 0 to 1" in capsys.readouterr().err
