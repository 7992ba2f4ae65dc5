"""What a training starts from: weights bring their configuration and classes, and the first line says it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import pyrcnn
from pyrcnn import InputError, Targets, checkpoints, cli, models
from pyrcnn.models.backbones.mobilenet_v2 import torchvision_names
from tests.detector import dataset

NAME = "centernet_mobilenet_v2_fpn_512"
FASTER = "faster_rcnn_mobilenet_v2_fpn"
SMALL: dict[str, dict[str, Any]] = {
    NAME: {"input_size": 64, "normalization": "imagenet", "head_width": 16},
    FASTER: {"min_size": 64, "max_size": 96, "fpn_channels": 16, "top": False, "roi": {"width": 16, "samples": 8}},
}


def saved(folder: Path, name: str, classes: list[str], **more: Any) -> tuple[torch.nn.Module, Path]:
    """A small model with settings of its own, and its file."""
    torch.manual_seed(0)
    model = models.build(name, num_classes=len(classes), **{**SMALL[name], **more}).eval()
    model.classes, model.category_ids = classes, [3 * i for i in range(len(classes))]
    for layer in model.class_outputs():
        torch.nn.init.normal_(model.get_submodule(layer).bias)
    checkpoints.save(model, folder / "m.safetensors")
    return model, folder / "m.safetensors"


@pytest.mark.parametrize("name", SMALL)
def test_a_file_of_ours_brings_its_configuration(tmp_path: Path, name: str) -> None:
    model, file = saved(tmp_path, name, ["cell", "disc"])
    image = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)
    for again in (
        checkpoints.build(name, file)[0],
        checkpoints.build(None, file)[0],
        checkpoints.build(name, file, classes=["disc", "cell"])[0],
        pyrcnn.load_model(name, file),
    ):
        assert (again.config, again.classes) == (model.config, ["cell", "disc"])
        assert torch.equal(again.eval()([image])[0].scores, model([image])[0].scores)
    changed, report = checkpoints.build(name, file, trainable_layers=0)
    assert (changed.config.trainable_layers, model.config.trainable_layers) == (0, None)
    told, changed_too = report.notes
    field = next(iter(SMALL[name]))
    assert told.startswith("the file brings its own configuration: ")
    assert f"{field}={SMALL[name][field]!r} (not {getattr(models.PRESETS[name], field)!r})" in told
    assert changed_too == "changed from the file's configuration: trainable_layers=0 (not None)"


def test_a_file_of_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    _, file = saved(tmp_path, NAME, ["cell", "disc"])
    for other in (FASTER, "centernet_resnet50_v2_512", "centernet_mobilenet_v2_fpn_512_kpts"):
        with pytest.raises(InputError, match=f"holds a CenterNet with the backbone mobilenet_v2, which is no {other}"):
            checkpoints.build(other, file)
    with pytest.raises(InputError, match="other shapes"):
        checkpoints.build(NAME, file, head_width=8)
    with pytest.raises(InputError, match="does not say which model"):
        checkpoints.build(None, {"a": torch.zeros(1)})


@pytest.mark.parametrize(("name", "agnostic"), [(NAME, False), (FASTER, False), (FASTER, True)])
def test_classes_that_weights_and_data_share_keep_their_weights(tmp_path: Path, name: str, agnostic: bool) -> None:
    more = {"roi": {**SMALL[FASTER]["roi"], "class_agnostic": True}} if agnostic else {}
    model, file = saved(tmp_path, name, ["cell", "disc", "rod"], **more)
    again, report = checkpoints.build(name, file, classes=["star", "Rod", "cell", "dot"])
    assert again.classes == ["star", "Rod", "cell", "dot"]
    assert "classes that keep their weights: Rod, cell; the others start anew" in report.notes
    for layer, (before, each) in model.class_outputs().items():
        for field in ("weight", "bias"):
            old, new = (getattr(m.get_submodule(layer), field).detach() for m in (model, again))
            assert torch.equal(old[:before], new[:before])
            old, new = (rows[before:].unflatten(0, (-1, each)) for rows in (old, new))
            assert torch.equal(old[[0, 2]], new[[2, 1]])
            assert not any(torch.equal(row, fresh) for row in old for fresh in new[[0, 3]])
    none, report = checkpoints.build(name, file, classes=["star"])
    assert "classes that keep their weights: none; the others start anew" in report.notes
    assert none.config.num_classes == 1


@pytest.mark.parametrize("name", SMALL)
def test_frozen_layers_do_not_move(name: str) -> None:
    """Neither weights nor the statistics of norms."""
    torch.manual_seed(0)
    model = models.build(name, num_classes=2, trainable_layers=0, **SMALL[name]).train()
    body = model.backbone.body if name == FASTER else model.backbone
    before = {key: value.clone() for key, value in body.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    image = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)
    targets = Targets(torch.tensor([[5.0, 5, 40, 40]]), torch.tensor([1]))
    sum(model([image, image], [targets, targets]).values()).backward()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in body.state_dict().items())
    partly = models.build(name, num_classes=2, trainable_layers=2, **SMALL[name]).train()
    norms = [m.training for m in partly.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {True, False} == set(norms)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: object) -> int:
    """The exit code of ``pyrcnn train`` on a small data set."""
    data = ("--images", folder / "images", "--annotations", folder / "annotations.json")
    quick = ("--set", "epochs=0.1", "--set", "batch_size=2", "--overwrite", "--out", folder / "run")
    monkeypatch.setattr(sys, "argv", ["pyrcnn", "train", *map(str, (*arguments, *data, *quick))])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    return int(exit.value.code or 0)


def test_the_first_line_says_what_a_training_starts_from(monkeypatch, capsys, tmp_path: Path) -> None:
    dataset(tmp_path)
    _, file = saved(tmp_path, NAME, ["disc", "cell"])
    assert run(monkeypatch, tmp_path, file) == 0
    assert capsys.readouterr().err.splitlines()[0] == f"starts from weights of {file}"
    trained = models.load(tmp_path / "run/last.safetensors")
    assert (trained.config.input_size, trained.config.normalization) == (64, "imagenet")
    assert (trained.classes, trained.category_ids) == (["disc", "cell"], [5, 3])
    assert run(monkeypatch, tmp_path, NAME, "--weights", file) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"starts from weights of {file}"
    assert "the file brings its own configuration: input_size=64 (not 512)" in lines[1]
    assert run(monkeypatch, tmp_path, NAME, "--set", "input_size=64") == 0
    assert capsys.readouterr().err.splitlines()[0] == "starts from random weights; see --weights and --backbone"


def test_random_weights_with_frozen_norms_must_be_asked_for(monkeypatch, capsys, tmp_path: Path) -> None:
    dataset(tmp_path)
    assert run(monkeypatch, tmp_path, "faster_rcnn_resnet50_fpn") == 2
    assert "its norms are frozen, which random weights do not fit" in capsys.readouterr().err
    freeze = ("--set", "freeze_norm=True", "--set", "input_size=64")
    assert run(monkeypatch, tmp_path, NAME, *freeze) == 2
    capsys.readouterr()
    assert run(monkeypatch, tmp_path, NAME, *freeze, "--weights", "random") == 0
    assert capsys.readouterr().err.splitlines()[0] == "starts from random weights"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lost.safetensors",), "no such file: lost.safetensors"),
        (("centernet",), "model must be one of"),
        ((NAME, "--weights", "lost.pth"), "no such file: lost.pth"),
        (("faster_rcnn_resnet50_fpn", "--weights", "bundled"), "--weights bundled must go with"),
        ((NAME, "--weights", "bundled", "--backbone", "b.pth"), "--backbone must be left out"),
    ],
)
def test_what_does_not_go_together_is_refused(
    monkeypatch, capsys, tmp_path: Path, arguments: tuple, message: str
) -> None:
    dataset(tmp_path)
    assert run(monkeypatch, tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_backbone_of_another_padding_is_noted(tmp_path: Path) -> None:
    """torchvision's MobileNetV2 pads symmetrically, the preset as TensorFlow does."""
    model = models.build(NAME, num_classes=2, input_size=64)
    layers = torchvision_names()
    state = {f"{layers[layer]}.{field}": value for name, value in model.backbone.state_dict().items()
             for layer, _, field in [name.rpartition(".")] if layer in layers}  # fmt: skip
    torch.save(state, tmp_path / "b.pth")
    notes = checkpoints.load_backbone(model, tmp_path / "b.pth").notes
    assert any("padding='symmetric' (the model has 'same')" in note for note in notes)
