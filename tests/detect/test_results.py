"""The forms of the results: text, JSON, JSON lines and COCO's formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from pyrcnn import checkpoints, evaluate, inference, models
from pyrcnn.commands import terminal
from pyrcnn.commands.detect import results
from tests.detector import dataset
from tests.test_cli import NAME, run


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A model whose classes have the names of the data set, in another order and with other ids."""
    torch.manual_seed(0)
    model = models.build(NAME, num_classes=3, input_size=64)
    model.classes, model.category_ids = ["cell", "other", "disc"], [1, 2, 3]
    checkpoints.save(model, tmp_path / "named.safetensors")
    return tmp_path / "named.safetensors"


def detect(monkeypatch, capsys, *arguments: object) -> str:
    assert run(monkeypatch, "detect", *arguments, "--no-draw", "--score", 0) == 0
    return capsys.readouterr().out


def test_json_lines_are_the_entries_of_json(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    dataset(tmp_path)
    arguments = (tmp_path / "images", "--weights", weights)
    array = json.loads(detect(monkeypatch, capsys, *arguments, "--json"))
    assert array == json.loads(detect(monkeypatch, capsys, *arguments, "--format", "json"))
    lines = detect(monkeypatch, capsys, *arguments, "--format", "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == array
    assert len(array) == 6


def test_json_lines_come_with_the_results(monkeypatch, tmp_path: Path, weights: str) -> None:
    dataset(tmp_path)
    seen: list[str] = []
    model = inference._run
    monkeypatch.setattr(inference, "_run", lambda m, images: seen.append("model") or model(m, images))
    monkeypatch.setattr("builtins.print", lambda *a, **k: seen.append("line"))
    arguments = (tmp_path / "images", "--weights", weights, "--no-draw", "--format", "jsonl")
    assert run(monkeypatch, "detect", *arguments) == 0
    assert seen == ["model", *["line"] * 4, "model", *["line"] * 2]


def test_coco_results_have_the_ids_of_the_annotations(monkeypatch, capsys, tmp_path: Path, named: Path) -> None:
    data = dataset(tmp_path)
    file = tmp_path / "annotations.json"
    arguments = (tmp_path / "images", "--weights", named, "--format", "coco", "--annotations", file, "--plain")
    found = json.loads(detect(monkeypatch, capsys, *arguments))
    wanted = evaluate.predict(models.load(named), data, plain=True)
    assert {r["category_id"] for r in found} == {3, 5}
    assert [(r["image_id"], r["category_id"]) for r in found] == [(r["image_id"], r["category_id"]) for r in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=1e-3)
    (tmp_path / "results.json").write_text(json.dumps(found))
    assert run(monkeypatch, "evaluate", "--annotations", file, "--detections", tmp_path / "results.json") == 0


def test_images_without_an_id_are_named(monkeypatch, capsys, tmp_path: Path, named: Path) -> None:
    data = dataset(tmp_path)
    file, folder = tmp_path / "annotations.json", tmp_path / "images"
    content = json.loads(file.read_text())
    content["images"] = [i | {"file_name": f"images/{i['file_name']}"} for i in content["images"] if i["id"] != 2]
    file.write_text(json.dumps(content))
    Image.new("RGB", (40, 30)).save(tmp_path / "1.jpg")  # of the same name, elsewhere
    arguments = ("--weights", named, "--format", "coco", "--annotations", file, "--no-draw", "--score", 0)
    assert run(monkeypatch, "detect", folder, tmp_path / "1.jpg", *arguments) == 1
    shown = capsys.readouterr()
    assert {r["image_id"] for r in json.loads(shown.out)} == {1, 3, 4, 5, 6}
    assert len(data) == 6
    assert [line.partition(": ")[2] for line in shown.err.splitlines()] == [
        f"{path}: {file} lists no image of this name" for path in (folder / "2.jpg", tmp_path / "1.jpg")
    ]
    assert run(monkeypatch, "detect", folder / "2.jpg", *arguments) == 2
    assert "--annotations must list the images" in capsys.readouterr().err


def test_coco_without_annotations_numbers_the_images(monkeypatch, capsys, tmp_path: Path, named: Path) -> None:
    data = dataset(tmp_path)
    (tmp_path / "images/more").mkdir()
    Image.new("RGB", (50, 30)).save(tmp_path / "images/more/1.png")
    found = json.loads(detect(monkeypatch, capsys, tmp_path / "images", "--weights", named, "--format", "coco"))
    assert found["categories"] == [{"id": i, "name": n} for i, n in ((1, "cell"), (2, "other"), (3, "disc"))]
    assert found["images"][0] == {"id": 1, "file_name": "1.jpg", "height": 30, "width": 40}
    assert found["images"][6] == {"id": 7, "file_name": "more/1.png", "height": 30, "width": 50}
    assert [a["id"] for a in found["annotations"]] == list(range(1, len(found["annotations"]) + 1))
    one = found["annotations"][0]
    assert set(one) == {"id", "image_id", "category_id", "bbox", "score", "area", "iscrowd"}
    # The names of images and classes join it with the annotations, although the ids differ.
    found["images"].pop()
    kept = [a for a in found["annotations"] if a["image_id"] != 7 and a["category_id"] != 2]
    scores = evaluate.coco({**found, "annotations": kept}, data)
    assert scores["AP"] == pytest.approx(evaluate.coco(models.load(named), data)["AP"], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json", "--format", "coco"), "--json must be left out with --format coco"),
        (("--annotations", "a.json"), "--annotations must go with --format coco, got --format text"),
        (("--format", "coco", "--annotations", "lost.json"), "lost.json"),
    ],
)
def test_what_does_not_go_together_is_refused(monkeypatch, capsys, arguments: tuple, message: str) -> None:
    assert run(monkeypatch, "detect", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_annotations_with_other_classes_are_refused(monkeypatch, capsys, tmp_path: Path) -> None:
    dataset(tmp_path)
    file = tmp_path / "annotations.json"
    options = ("--format", "coco", "--annotations", file, "--no-draw")
    assert run(monkeypatch, "detect", tmp_path / "images", *options) == 2
    assert "--annotations must have classes of the model (RBC, WBC, Platelets)" in capsys.readouterr().err


def test_the_old_name_of_the_image_format_works(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    dataset(tmp_path)
    out = tmp_path / "out"
    arguments = (tmp_path / "images/1.jpg", "--weights", weights, "--out", out, "--format", "png")
    assert run(monkeypatch, "detect", *arguments) == 0
    assert "use --image-format png" in capsys.readouterr().err
    assert (out / "1.png").exists()


def test_arrays_lie_in_a_file_and_not_in_memory(monkeypatch, capsys) -> None:
    monkeypatch.setattr(results, "_IN_MEMORY", 100)
    for indent in (None, 1):
        array = results._Array(indent)
        values = [{"n": n, "text": "ä\n", "none": float("nan")} for n in range(50)]
        for value in values:
            array.append(value)
        assert array._file._rolled  # type: ignore[attr-defined]
        array.show()
        shown = capsys.readouterr().out
        assert json.loads(shown) == [value | {"none": None} for value in values]
        if indent:
            terminal.print_json(values, indent=1)
            assert capsys.readouterr().out == shown
