from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from pyrcnn import InputError, checkpoints, models
from pyrcnn.atomic import replacing
from pyrcnn.models.configuration import check_config


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    built = models.build("centernet_mobilenet_v2_fpn_512", num_classes=3, input_size=128)
    built.classes, built.category_ids = ["x", "y", "z"], [2, 4, 9]
    return built.eval()


def test_a_file_alone_rebuilds_the_model(model: torch.nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    checkpoints.save(model, file)
    again = models.load(file)
    assert again.config == model.config
    assert (again.classes, again.category_ids) == (["x", "y", "z"], [2, 4, 9])
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_half_precision_halves_the_file_and_keeps_the_vectors(model: torch.nn.Module, tmp_path: Path) -> None:
    checkpoints.save(model, tmp_path / "full.safetensors")
    checkpoints.save(model, tmp_path / "half.safetensors", torch.float16)
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    again = models.load(tmp_path / "half.safetensors").state_dict()
    for name, value in model.state_dict().items():
        assert again[name].dtype == value.dtype
        tolerance = 0 if value.ndim <= 1 else 1e-3
        assert torch.allclose(again[name], value, rtol=tolerance, atol=tolerance * 1e-3), name


def test_load_reports_what_it_used(model: torch.nn.Module, tmp_path: Path) -> None:
    checkpoints.save(model, tmp_path / "m.safetensors")
    other = models.build("centernet_mobilenet_v2_fpn_512", num_classes=3, input_size=256)
    report = checkpoints.load(other, tmp_path / "m.safetensors")
    assert len(report.used) == len(model.state_dict())
    assert (report.missing, report.unexpected, report.reshaped) == ((), (), ())
    assert torch.equal(other.backbone.stem.conv.weight, model.backbone.stem.conv.weight)


def test_another_class_count_needs_asking(model: torch.nn.Module, tmp_path: Path) -> None:
    checkpoints.save(model, tmp_path / "m.safetensors")
    other = models.build("centernet_mobilenet_v2_fpn_512", num_classes=5)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(
        InputError, match=r"head\.heatmap\.0\.out\.weight.*; pyrcnn\.load_model\(file\) builds the model"
    ):
        checkpoints.load(other, tmp_path / "m.safetensors")
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())
    report = checkpoints.load(other, tmp_path / "m.safetensors", new_heads=True)
    assert set(report.reshaped) == {"head.heatmap.0.out.weight", "head.heatmap.0.out.bias"}
    assert torch.equal(other.head["heatmap"][0].out.weight, before["head.heatmap.0.out.weight"])
    assert "reshaped" in str(report)


def test_damaged_and_foreign_files_are_named(model: torch.nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    checkpoints.save(model, file)
    whole = file.read_bytes()
    for damage in (whole[:-1000], whole[:40], b""):
        file.write_bytes(damage)
        with pytest.raises(InputError, match=r"m\.safetensors"):
            checkpoints.load(model, file)
        with pytest.raises(InputError, match=r"m\.safetensors"):
            models.load(file)
    file.write_bytes(whole)
    other = models.build("faster_rcnn_mobilenet_v2_fpn", num_classes=3, fpn_channels=16)
    with pytest.raises(InputError, match="holds a CenterNet, the model is a FasterRCNN"):
        checkpoints.load(other, file)
    with pytest.raises(InputError, match="no such file"):
        checkpoints.load(model, tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        checkpoints.save(model, tmp_path / "m.pt")


@pytest.mark.parametrize("name", models.names())
def test_every_configuration_passes_the_check_of_files(name: str) -> None:
    config = models.PRESETS[name]
    check_config(type(config), json.loads(json.dumps(asdict(config))))


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert list(path.parent.iterdir()) == []
    for content in ("one", "two"):
        with replacing(path) as temporary:
            temporary.write_text(content)
        assert path.read_text() == content
    assert len(list(path.parent.iterdir())) == 1


def test_imagenet_backbone_by_torchvisions_names(model: torch.nn.Module, tmp_path: Path) -> None:
    own = model.backbone.state_dict()
    given = {}
    for name, value in own.items():
        layer, _, field = name.rpartition(".")
        if layer.split(".")[0] in ("stem", "last"):
            part, kind = layer.split(".")
            given[f"features.{0 if part == 'stem' else 18}.{0 if kind == 'conv' else 1}.{field}"] = value
        else:
            _, block, part, kind = layer.split(".")
            parts = ["expand", "depthwise"] if int(block) else ["depthwise"]
            last = len(parts) + (kind == "norm")
            place = last if part == "project" else f"{parts.index(part)}.{int(kind == 'norm')}"
            given[f"features.{int(block) + 1}.conv.{place}.{field}"] = value
    torch.save(given | {"classifier.1.weight": torch.zeros(3)}, tmp_path / "m.pth")
    other = models.build("centernet_mobilenet_v2_fpn_512", num_classes=3)
    report = checkpoints.load_backbone(other, tmp_path / "m.pth")
    assert not report.unexpected
    assert all(torch.equal(v, own[k]) for k, v in other.backbone.state_dict().items())
    torch.save({"what": torch.zeros(1)}, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"m\.pth holds no classifier"):
        checkpoints.load_backbone(other, tmp_path / "m.pth")
