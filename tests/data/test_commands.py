"""The data sets of commands: ``--data`` takes every format, and means what the options for COCO mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pyrcnn import InputError, checkpoints, models, train
from tests.test_cli import run

from . import made

NAME = "centernet_mobilenet_v2_fpn_512"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    model = models.build(NAME, num_classes=3, input_size=64)
    model.classes, model.category_ids = list(made.CLASSES), [1, 2, 3]
    file = tmp_path_factory.mktemp("weights") / "m.safetensors"
    checkpoints.save(model, file)
    return str(file)


def test_models_and_results_are_scored_on_every_format(monkeypatch, capsys, tmp_path: Path, weights: str) -> None:
    given = made.pictures()
    found = []
    for kind in made.FORMATS:
        source = made.write(tmp_path / kind, kind, given)
        if kind == "coco":
            arguments = ("--images", tmp_path / kind / "images", "--annotations", source)
            content = json.loads(source.read_text())
            results = [{"image_id": a["image_id"], "category_name": made.CLASSES[a["category_id"] - 1], "score": 0.9,
                        "bbox": a["bbox"]} for a in content["annotations"]]  # fmt: skip
            (tmp_path / "r.json").write_text(json.dumps(results))
            assert run(monkeypatch, "evaluate", *arguments, "--weights", weights, "--plain", "--json") == 0
            found.append(json.loads(capsys.readouterr().out))
        if kind == "yolo":  # has no split to score on
            assert run(monkeypatch, "evaluate", "--data", source, "--weights", weights) == 2
            assert "none of val, valid, validation, test among train" in capsys.readouterr().err
            source = Path(f"{source}:train")
        assert run(monkeypatch, "evaluate", "--data", source, "--weights", weights, "--plain", "--json") == 0
        found.append(json.loads(capsys.readouterr().out))
        assert run(monkeypatch, "evaluate", "--data", source, "--detections", tmp_path / "r.json", "--json") == 0
        assert json.loads(capsys.readouterr().out)["AP"] == pytest.approx(1), kind
    assert len(found) == 5
    assert all(scores == pytest.approx(found[0], abs=1e-9) for scores in found)


@pytest.mark.parametrize("kind", made.FORMATS)
def test_training_takes_every_format(monkeypatch, capsys, tmp_path: Path, kind: str) -> None:
    given: list[Any] = []

    def fit(model: Any, train_data: Any, val_data: Any, *_: Any, **__: Any) -> Any:
        given.extend((train_data, val_data))
        raise InputError("enough")

    monkeypatch.setattr(train, "fit", fit)
    source = made.write(tmp_path / "d", kind, made.pictures())
    coco = made.write(tmp_path / "coco", "coco", made.pictures())
    options = ("--data", source, "--val-data", coco, "--out", tmp_path / "run", "--set", "input_size=64")
    assert run(monkeypatch, "train", NAME, *options) == 2
    assert capsys.readouterr().err.endswith("pyrcnn: enough\n")
    for dataset in given:
        assert (dataset.classes, len(dataset)) == (made.CLASSES, 6)
    assert given[0].records[0].path.is_relative_to(tmp_path / "d")
    assert given[1].records[0].path.is_relative_to(tmp_path / "coco")


def test_data_sets_that_are_not_given_are_asked_for(monkeypatch, capsys, tmp_path: Path) -> None:
    source = made.write(tmp_path / "d", "coco", made.pictures())
    images = tmp_path / "d/images"
    for arguments, message in (
        (("evaluate",), "give --annotations, a COCO file, or --data"),
        (("evaluate", "--annotations", source), "give either --detections"),
        (("evaluate", "--data", source, "--annotations", source), "data must be given once"),
        (("train", NAME), "data must be given: --data, or --images and --annotations"),
        (("train", NAME, "--images", images), "data must be given: --data"),
        (("train", NAME, "--data", source, "--val-data", tmp_path / "none"), "which does not exist"),
        (("train", NAME, "--data", f"{source}:val"), "has one file per split"),
    ):
        assert run(monkeypatch, *arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
