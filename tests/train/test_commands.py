"""The recipes and the augmentation on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyrcnn import data, settings, train
from pyrcnn.train.recipes import CATALOG
from tests.detector import dataset
from tests.test_cli import run

NAME = "centernet_mobilenet_v2_fpn_512"
QUICK = [v for s in ("input_size=64", "steps=2", "batch_size=2", "workers=0") for v in ("--set", s)]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[train.TrainConfig]:
    """The settings that reach train.fit."""
    dataset(tmp_path)
    found: list[train.TrainConfig] = []
    fit = train.fit
    monkeypatch.setattr(train, "fit", lambda m, t, v, config, **k: found.append(config) or fit(m, t, v, config, **k))
    return found


def test_what_differs_from_the_recipe_is_printed(monkeypatch, capsys, tmp_path: Path, given: list) -> None:
    source = ("--images", tmp_path / "images", "--annotations", tmp_path / "annotations.json")
    options = ("--recipe", "centernet_mobilenet", "--augment", "HorizontalFlip, RandomPad(9)")
    assert run(monkeypatch, "train", NAME, *source, *options, *QUICK, "--out", tmp_path / "run") == 0
    assert given[0].augment == (data.HorizontalFlip(), data.RandomPad(9))
    assert (given[0].steps, given[0].optimizer, given[0].adam_epsilon) == (2, "adam", 1e-8)
    lines = capsys.readouterr().err.splitlines()
    for expected in (
        "recipe centernet_mobilenet: the model's input_size is 64, published with 512",
        "recipe centernet_mobilenet: batch_size is 2, published with 128",
        "recipe centernet_mobilenet: steps is 2, published with 300000",
        "recipe centernet_mobilenet: train_data has 6 images, published with 118287: 2 steps are 0.667 epochs",
        "recipe centernet_mobilenet: device is cpu, published with TPU-8",
    ):
        assert expected in lines
    assert any(line.startswith("recipe centernet_mobilenet: augment is (HorizontalFlip(") for line in lines)


def test_a_recipe_for_no_model_in_particular_says_nothing(monkeypatch, capsys, tmp_path: Path, given: list) -> None:
    source = ("--images", tmp_path / "images", "--annotations", tmp_path / "annotations.json")
    assert run(monkeypatch, "train", NAME, *source, *QUICK, "--out", tmp_path / "run") == 0
    assert "recipe" not in capsys.readouterr().err


def test_mistakes_are_told_before_data_are_read(monkeypatch, capsys) -> None:
    source = ("--images", "none", "--annotations", "none.json")
    assert run(monkeypatch, "train", NAME, *source, "--recipe", "best") == 2
    assert "--recipe must be one of finetune, bccd_faster_rcnn, " in capsys.readouterr().err
    assert run(monkeypatch, "train", NAME, *source, "--augment", "Blur(3)") == 2
    error = capsys.readouterr().err
    assert error.startswith("pyrcnn: augment must name transforms (ColorJitter, ")
    assert error.count("\n") == 1


def test_recipes_are_listed(monkeypatch, capsys) -> None:
    assert run(monkeypatch, "models", "--recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["recipe", "batch", "length", "reproduces", "models"]
    assert [line.split()[0] for line in lines[1:]] == list(CATALOG)
    assert any("80_000 + 40_000 + 80_000 + 40_000 steps" in line for line in lines)
    assert run(monkeypatch, "models", "--recipes", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["detectron2_3x"]["settings"]["steps"] == 270_000
    assert listed["detectron2_3x"]["model"] == {"trainable_layers": 3}
    assert [s["steps"] for s in listed["paper_vgg16_alternating"]["stages"]] == [80_000, 40_000, 80_000, 40_000]


def test_changes_of_a_recipe_give_way_to_those_of_the_user() -> None:
    changes = {"max_size": 1024, "roi": {"samples": 64, "pool": "max"}}
    assert settings.merge(changes, {"roi": {"samples": 8}, "min_size": 5}) == {
        "max_size": 1024, "roi": {"samples": 8, "pool": "max"}, "min_size": 5,
    }  # fmt: skip
    assert changes["roi"]["samples"] == 64


def test_alternating_training_by_its_recipe(monkeypatch, capsys, tmp_path: Path) -> None:
    dataset(tmp_path)
    source = ("--images", tmp_path / "images", "--annotations", tmp_path / "annotations.json")
    sets = (
        "min_size=64",
        "max_size=96",
        "roi.width=8",
        "rpn.after_nms=(20,10)",
        "steps=1",
        "workers=0",
        "batch_size=2",
    )
    options = [v for s in sets for v in ("--set", s)]
    command = ("train", "faster_rcnn_mobilenet_v2_fpn", *source, "--recipe", "paper_vgg16_alternating", *options,
               "--weights", "random", "--out", tmp_path / "run")  # fmt: skip
    assert run(monkeypatch, *command) == 0
    printed = capsys.readouterr()
    assert "step4/last.safetensors" in printed.out
    assert "trains longer" not in printed.out  # a step is no run of its own
    lines = printed.err.splitlines()
    assert any(line.startswith("recipe paper_vgg16_alternating: the model is another one (backbone ") for line in lines)
    assert "recipe paper_vgg16_alternating: steps is 1, published with 80000" in lines
    assert "recipe paper_vgg16_alternating: steps is 1, published with 40000" in lines
    assert [line for line in lines if line.startswith("step ") and " of 4: " in line] == [
        "step 1 of 4: backbone and rpn", "step 2 of 4: backbone and roi", "step 3 of 4: rpn", "step 4 of 4: roi",
    ]  # fmt: skip
    assert run(monkeypatch, *command) == 2
    assert "alternating.json; resume=True (--resume) continues its run" in capsys.readouterr().err
