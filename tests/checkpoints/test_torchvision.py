"""torchvision's files: its names as the library has written them, renamed here from our models' random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pyrcnn import InputError, checkpoints, models
from pyrcnn.checkpoints import zoo
from pyrcnn.models.backbones.mobilenet_v2 import torchvision_names

SMALL = {"num_classes": 3, "fpn_channels": 8, "roi": {"width": 16}}


def build(name: str, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    model = models.build(name, **changes)
    with torch.no_grad():  # no two layers alike, norms included
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5)
    return model


def torchvisions(model: nn.Module, old: bool = False) -> dict[str, Tensor]:
    """The state that torchvision's detector with these weights would have; ``old``: before 0.13."""
    fields = ("weight", "bias", "running_mean", "running_var")
    state = {}
    for name, value in model.state_dict().items():
        layer, _, field = name.rpartition(".")
        parts = layer.split(".")
        if field not in fields:
            continue
        if layer.startswith("rpn.head.conv."):
            theirs = "rpn.head.conv" if old else f"{layer}.0"
        elif layer.startswith("backbone.fpn."):
            theirs = ".".join(parts[:4]) if old else layer
        elif layer.startswith("roi.head.convs."):
            theirs = f"roi_heads.box_head.{parts[3]}.{0 if parts[4] == 'conv' else 1}"
        elif layer == "roi.head.fc6" and "roi.head.convs.0.conv.weight" in model.state_dict():
            theirs = "roi_heads.box_head.5"
        elif layer.startswith("roi.head."):
            theirs = f"roi_heads.box_head.{parts[2]}"
        elif layer.startswith("roi.predictor."):
            theirs = f"roi_heads.box_predictor.{parts[2]}"
            if parts[2] == "bbox_pred":
                value = torch.cat([torch.full_like(value[:4], 7.0), value])  # rows that are never read
        else:
            theirs = layer
        state[f"{theirs}.{field}"] = value.clone()
    return state


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items() if "num_batches" not in k)


@pytest.mark.parametrize(
    ("name", "old"),
    [("faster_rcnn_resnet50_fpn", False), ("faster_rcnn_resnet50_fpn", True), ("faster_rcnn_resnet50_fpn_v2", False)],
)
def test_every_weight_arrives(name: str, old: bool) -> None:
    model = build(name, **SMALL)
    given = torchvisions(model, old)
    assert ("rpn.head.conv.weight" in given) == old
    other = models.build(name, **SMALL)
    report = checkpoints.load(other, given)
    assert same(model, other)
    assert (report.missing, report.unexpected, report.reshaped) == ((), (), ())
    assert any("norm_eps" in note for note in report.notes) == old
    assert "norm_eps=0.0" in str(report) or not old


def test_the_class_count_comes_from_the_file() -> None:
    model = build("faster_rcnn_resnet50_fpn", **SMALL)
    rest = {key: value for key, value in SMALL.items() if key != "num_classes"}
    other, report = checkpoints.build("faster_rcnn_resnet50_fpn", torchvisions(model), **rest)
    assert other.config == model.config
    assert same(model, other)
    assert (report.missing, report.reshaped) == ((), ())


def test_a_published_file_brings_its_settings(tmp_path: Path) -> None:
    name = "faster_rcnn_resnet50_fpn"
    model = build(name, **SMALL, norm_eps=0.0)
    published = tmp_path / "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    torch.save(torchvisions(model, old=True), published)
    other, report = checkpoints.build(name, published, **SMALL)
    assert other.config == model.config
    assert report.notes == ()
    other, _ = checkpoints.build(name, published, **SMALL, norm_eps=1e-3)  # what the caller says goes first
    assert other.config.norm_eps == 1e-3
    mine = published.rename(tmp_path / "mine.pth")
    assert checkpoints.build(name, mine, **SMALL)[0].config.norm_eps == model.config.norm_eps + 1e-5


def test_settings_of_a_published_file_and_of_the_caller_meet() -> None:
    name = "faster_rcnn_resnet101_fpn"
    settings = zoo.with_settings(name, Path("models/model_final_f6e8b1.pkl"), {"roi": {"width": 16}})
    assert settings == {**zoo.PUBLISHED[name].changes, "roi": {**zoo.PUBLISHED[name].changes["roi"], "width": 16}}
    assert zoo.with_settings(name, "other.pkl", {"roi": {"width": 16}}) == {"roi": {"width": 16}}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_file(zipped: bool, wrapped: bool, tmp_path: Path) -> None:
    model = build("faster_rcnn_resnet50_fpn", **SMALL)
    given = {name: value.half() for name, value in torchvisions(model).items()}
    file = tmp_path / "detector.pth"
    content = {"model": given, "optimizer": {"state": {}}, "epoch": 3} if wrapped else given
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    other = models.build("faster_rcnn_resnet50_fpn", **SMALL)
    report = checkpoints.load(other, file)
    assert report.source == str(file)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value.half().float())


def test_another_class_count() -> None:
    given = torchvisions(build("faster_rcnn_resnet50_fpn", **SMALL))
    model = models.build("faster_rcnn_resnet50_fpn", **{**SMALL, "num_classes": 5})
    with pytest.raises(InputError, match=r"roi\.predictor.*new_heads=True"):
        checkpoints.load(model, given)
    report = checkpoints.load(model, given, new_heads=True)
    assert all(name.startswith("roi.predictor.") for name in report.reshaped)
    assert len(report.reshaped) == 4


def shapes(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return torchvisions(models.build(name))


def test_the_preset_that_fits_is_named() -> None:
    given = shapes("faster_rcnn_resnet101_fpn")
    with torch.device("meta"):
        model = models.build("faster_rcnn_resnet50_fpn")
    with pytest.raises(InputError, match=r"model lacks: .*layer3\.6.* more; it fits faster_rcnn_resnet101_fpn$"):
        checkpoints.load(model, given)


def test_what_fits_nothing_is_refused_by_name() -> None:
    model = build("faster_rcnn_resnet50_fpn", **SMALL)
    given = torchvisions(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    del given["backbone.body.layer2.0.conv1.weight"]
    with pytest.raises(InputError, match=r"lacks backbone\.body\.layer2\.0\.conv1\.weight$"):
        checkpoints.load(model, {name: value + 1 for name, value in given.items()})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_detectron2s_numerics_are_pointed_out() -> None:
    given = torchvisions(build("faster_rcnn_resnet50_fpn", **SMALL))
    report = checkpoints.load(models.build("faster_rcnn_resnet50_fpn_detectron2", **SMALL), given)
    assert "normalization='imagenet' (the model has 'detectron2')" in str(report)


CLASSIFIERS = {
    "faster_rcnn_resnet50_fpn": "fc.weight",
    "faster_rcnn_mobilenet_v2_fpn": "classifier.1.weight",
    "faster_rcnn_vgg16": "classifier.6.weight",
    "faster_rcnn_resnet50_c4": "fc.weight",
}


def classifier(model: nn.Module, last: str) -> dict[str, Tensor]:
    """The ImageNet file from which the model's backbone, and a head of the same layers, would come."""
    names = torchvision_names() if "mobilenet" in model.config.backbone else {}
    state = {last: torch.zeros(10, 4)}
    for name, value in model.state_dict().items():
        layer, _, field = name.rpartition(".")
        if layer.startswith("backbone.body."):
            layer = layer.removeprefix("backbone.body.")
            state[f"{names.get(layer, layer)}.{field}"] = value
        elif layer.startswith("roi.head.layer4."):
            state[f"{layer.removeprefix('roi.head.')}.{field}"] = value
        elif layer in ("roi.head.fc6", "roi.head.fc7") and last == "classifier.6.weight":
            state[f"classifier.{0 if layer.endswith('6') else 3}.{field}"] = value
    return state


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_fills_the_backbone(name: str, tmp_path: Path) -> None:
    changes = {"roi": {"width": 16}} if "c4" not in name else {"rpn": {"channels": 8}}
    model = build(name, num_classes=3, **changes)
    torch.save(classifier(model, CLASSIFIERS[name]), tmp_path / "imagenet.pth")
    other = models.build(name, num_classes=3, **changes)
    report = checkpoints.load_backbone(other, tmp_path / "imagenet.pth")
    filled = [n for n, v in model.state_dict().items() if torch.equal(v, other.state_dict()[n])]
    assert set(report.used) <= set(filled)
    assert {n for n in model.state_dict() if n.startswith("backbone.body.") and "num_batches" not in n} <= set(filled)
    assert ("roi.head.fc6.weight" in report.used) == ("vgg" in name)
    assert ("roi.head.layer4.0.conv1.weight" in report.used) == ("c4" in name)
    assert "rpn.head.cls_logits.weight" in report.missing
    with pytest.raises(InputError, match="load_backbone"):
        checkpoints.load(other, tmp_path / "imagenet.pth")


def test_a_deeper_classifier_is_refused(tmp_path: Path) -> None:
    torch.save(classifier(build("faster_rcnn_resnet101_c4"), "fc.weight"), tmp_path / "resnet101.pth")
    with pytest.raises(InputError, match=r"resnet101\.pth has layers that the model lacks.*layer3\.6"):
        checkpoints.load_backbone(models.build("faster_rcnn_resnet50_c4"), tmp_path / "resnet101.pth")


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    model = models.build("faster_rcnn_mobilenet_v2_fpn", num_classes=1)
    with pytest.raises(InputError, match=r"no such file: .*none\.pth"):
        checkpoints.load(model, tmp_path / "none.pth")
    for zipped in (True, False):
        file = tmp_path / "cut.pth"
        torch.save({"backbone.body.a": torch.zeros(5000)}, file, _use_new_zipfile_serialization=zipped)
        whole = file.read_bytes()
        for keep in (100, len(whole) // 2, len(whole) - 40):
            file.write_bytes(whole[:keep])
            with pytest.raises(InputError, match=r"cut\.pth is damaged"):
                checkpoints.load(model, file)
    for content in (b"", b"<html>not found</html>"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"no known format: .*cut\.pth"):
            checkpoints.load(model, file)
