"""detectron2's files: its names as the library has written them, and pickles that are read but never run."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pyrcnn
from pyrcnn import InputError, checkpoints, models
from pyrcnn.checkpoints import zoo as published
from pyrcnn.checkpoints.formats import pickles
from tests.checkpoints.test_torchvision import build, same

FPN, C4 = "faster_rcnn_resnet50_fpn_detectron2", "faster_rcnn_resnet50_c4_detectron2"
CHANGES: dict[str, dict[str, Any]] = {
    FPN: {"num_classes": 3, "fpn_channels": 8, "roi": {"width": 16}},
    C4: {"num_classes": 3, "rpn": {"channels": 8}},
}


def block(layer: str) -> str:
    """Our ``layer2.0.bn3`` as detectron2's ``res3.0.conv3.norm``."""
    layer = re.sub(r"layer(\d)", lambda m: f"res{int(m[1]) + 1}", layer)
    layer = layer.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    return re.sub(r"bn(\d)", r"conv\1.norm", layer)


def detectron2s(model: nn.Module) -> dict[str, Tensor]:
    """The state that detectron2's detector with these weights would have."""
    pyramid = model.config.fpn_channels > 0
    single = {
        "rpn.head.conv.0": "proposal_generator.rpn_head.conv",
        "rpn.head.cls_logits": "proposal_generator.rpn_head.objectness_logits",
        "rpn.head.bbox_pred": "proposal_generator.rpn_head.anchor_deltas",
        "roi.head.fc6": "roi_heads.box_head.fc1",
        "roi.head.fc7": "roi_heads.box_head.fc2",
        "roi.predictor.cls_score": "roi_heads.box_predictor.cls_score",
        "roi.predictor.bbox_pred": "roi_heads.box_predictor.bbox_pred",
    }
    state = {}
    for name, value in model.state_dict().items():
        layer, _, field = name.rpartition(".")
        if layer.startswith("backbone.body."):
            layer = layer.removeprefix("backbone.body.")
            stem = "stem." if not layer.startswith("layer") else ""
            theirs = f"backbone.{'bottom_up.' if pyramid else ''}{stem}{block(layer)}"
        elif layer.startswith("backbone.fpn."):
            kind, level = layer.split(".")[2:4]
            theirs = f"backbone.fpn_{'lateral' if kind == 'inner_blocks' else 'output'}{int(level) + 2}"
        elif layer.startswith("roi.head.layer4."):
            theirs = "roi_heads." + block(layer.removeprefix("roi.head."))
        else:
            theirs = single[layer]
        if layer == "roi.predictor.cls_score":
            value = torch.cat([value[1:], value[:1]])  # background last
        state[f"{theirs}.{field}"] = value.clone()
    return state


def zoo(state: dict[str, Tensor]) -> dict[str, Any]:
    return {"model": {name: value.numpy() for name, value in state.items()}, "__author__": "Detectron2 Model Zoo"}


@pytest.mark.parametrize("name", [FPN, C4])
def test_every_weight_arrives(name: str, tmp_path: Path) -> None:
    model = build(name, **CHANGES[name])
    given = zoo(detectron2s(model))
    given["model"]["pixel_mean"] = np.zeros((3, 1, 1), np.float32)
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps(given))
    torch.save({"model": detectron2s(model), "iteration": 7}, tmp_path / "model_final.pth")
    for source in (tmp_path / "model_final.pkl", tmp_path / "model_final.pth", given):
        other = models.build(name, **CHANGES[name])
        report = checkpoints.load(other, source)
        assert same(model, other)
        assert (report.missing, report.reshaped, report.notes) == ((), (), ())
        assert report.unexpected == (() if str(source).endswith("pth") else ("pixel_mean",))


def test_torchvisions_numerics_are_pointed_out() -> None:
    given = detectron2s(build(FPN, **CHANGES[FPN]))
    report = checkpoints.load(models.build("faster_rcnn_resnet50_fpn", **CHANGES[FPN]), given)
    assert "rpn.anchors='detectron2' (the model has 'torchvision')" in str(report)


PUBLISHED = [name for name, entry in published.PUBLISHED.items() if entry.url.startswith(published.DETECTRON2)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_come_with_their_numerics(name: str) -> None:
    changes = {"num_classes": 80, **published.PUBLISHED[name].changes}
    with torch.device("meta"):
        model = models.build(name, **changes)
        report = checkpoints.load(model, detectron2s(model))
    assert (report.missing, report.unexpected, report.notes) == ((), (), ())


def test_the_preset_that_fits_is_named() -> None:
    with torch.device("meta"):
        given = detectron2s(models.build(C4))
        model = models.build(FPN)
    with pytest.raises(InputError, match=rf"lacks .*; it fits {C4}$"):
        checkpoints.load(model, given)


def test_msra_backbone_in_caffe2s_names(tmp_path: Path) -> None:
    """Scale and shift only: the statistics must leave them as they are."""
    model = build(C4, **CHANGES[C4])
    parts = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
    blobs = {"conv1_b": np.zeros(64, np.float32), "fc1000_w": np.zeros((5, 5), np.float32)}
    for name, value in model.state_dict().items():
        layer, _, field = name.rpartition(".")
        layer = layer.removeprefix("backbone.body.").removeprefix("roi.head.")
        if layer.startswith("layer") and field in ("weight", "bias"):
            stage, index, part, *norm = block(layer).split(".")
            end = f"bn_{'s' if field == 'weight' else 'b'}" if norm else "w"
            blobs[f"{stage}_{index}_{parts[part]}_{end}"] = value.numpy()
        elif layer in ("conv1", "bn1") and field in ("weight", "bias"):
            end = "conv1_w" if layer == "conv1" else f"res_conv1_bn_{'s' if field == 'weight' else 'b'}"
            blobs[end] = value.numpy()
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    other = models.build(C4, **CHANGES[C4])
    report = checkpoints.load_backbone(other, tmp_path / "R-50.pkl")
    assert set(report.unexpected) == {"conv1_b", "fc1000_w"}
    for layer in ("backbone.body.conv1", "backbone.body.layer3.5.conv2", "roi.head.layer4.0.downsample.0"):
        assert torch.equal(other.get_submodule(layer).weight, model.get_submodule(layer).weight)
    theirs, ours = (m.get_submodule("backbone.body.layer2.1.bn3") for m in (model, other))
    x = torch.rand(1, 512, 2, 2)
    expected = x * theirs.weight[:, None, None] + theirs.bias[:, None, None]
    torch.testing.assert_close(ours(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "<i8", "|u1", "|b1"])
def test_arrays_of_every_protocol(protocol: int, dtype: str, tmp_path: Path) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    given = {"c": array, "fortran": np.asfortranarray(array), "empty": array[:0], "scalar": array.reshape(-1)[5:6][0]}
    ordered: OrderedDict[str, Any] = OrderedDict(given, version=np.float64(2), note="text", blob=b"\xff\x00")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(ordered, protocol=protocol))
    found = pickles.read(tmp_path / "a.pkl")
    for name in ("c", "fortran", "empty", "scalar"):
        value = np.asarray(given[name])
        assert np.array_equal(found[name].numpy(), value)
        assert found[name].numpy().dtype == value.dtype.newbyteorder("=")


class Evil:
    def __init__(self, function: Any, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    model = models.build("faster_rcnn_mobilenet_v2_fpn", num_classes=1)
    proof = tmp_path / "proof"
    attacks = [
        Evil(os.system, f"touch {proof}"),
        Evil(eval, f"open({str(proof)!r}, 'w')"),
        Evil(open, str(proof), "w"),
        Evil(np.fromfile, str(proof)),
        Evil(getattr, {}, "keys"),
    ]
    for attack in attacks:
        for content in ({"model": {"proposal_generator.a": attack}}, {"model": {}, "__author__": attack}):
            (tmp_path / "evil.pkl").write_bytes(pickle.dumps(content))
            with pytest.raises(InputError, match=r"evil\.pkl is damaged or holds more than weights"):
                checkpoints.load(model, tmp_path / "evil.pkl")
            torch.save(content, tmp_path / "evil.pth")
            with pytest.raises(InputError, match=r"evil\.pth is damaged or holds more than weights"):
                checkpoints.load(model, tmp_path / "evil.pth")
    assert not proof.exists()


@pytest.mark.parametrize("array", [np.array([{}, "a"], object), np.array(["text"]), np.zeros(2, [("a", "f4")])])
def test_arrays_of_anything_but_numbers_are_refused(array: Any, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": {"stem.conv1.weight": array}}))
    with pytest.raises(InputError, match=r"a\.pkl is damaged or holds more than weights"):
        pickles.read(tmp_path / "a.pkl")


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cut.pkl"
    whole = pickle.dumps({"model": {"stem.conv1.weight": np.ones((64, 3, 7, 7), np.float32)}})
    for keep in (1, 2, 50, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:keep])
        with pytest.raises(InputError, match=r"cut\.pkl is damaged"):
            pickles.read(file)
    rng = np.random.default_rng(0)
    for _ in range(200):  # a few flipped bytes: read or refused, never anything else
        content = bytearray(whole[:200] + whole[-30:])
        for at in rng.integers(1, len(content), 3):
            content[at] = rng.integers(256)
        file.write_bytes(content)
        with contextlib.suppress(InputError):
            pickles.read(file)


def test_torchvisions_preset_gets_detectron2s_settings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both presets have the same weights; with torchvision's numerics the detections would be others."""
    changes = {**CHANGES[FPN], "min_size": 96, "max_size": 128}
    right = models.build(FPN, **changes).eval()
    file = tmp_path / "theirs.pkl"
    file.write_bytes(pickle.dumps(zoo(detectron2s(right))))
    image = torch.randint(0, 256, (3, 80, 100), dtype=torch.uint8)
    model = pyrcnn.load_model("faster_rcnn_resnet50_fpn", file, **changes)
    assert torch.equal(model.preprocess([image])[0], right.preprocess([image])[0])
    assert torch.equal(model([image])[0].boxes, right([image])[0].boxes)
    assert "weights from detectron2 bring its settings: " in caplog.text
    asked = pyrcnn.load_model("faster_rcnn_resnet50_fpn", file, normalization="raw", **changes)
    assert asked.config.normalization == "raw"


def test_given_names_of_the_classes_are_kept() -> None:
    state = detectron2s(models.build(FPN, **CHANGES[FPN]))
    changes = {name: value for name, value in CHANGES[FPN].items() if name != "num_classes"}
    model, _ = checkpoints.build(FPN, state, classes=["a", "b", "c"], **changes)
    assert model.classes == ["a", "b", "c"]


def test_tensors_that_pickle_wrote_are_refused_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "theirs.pkl"
    file.write_bytes(pickle.dumps({"model": {"a": torch.ones(2)}}))
    with pytest.raises(InputError, match=r"tensors that pickle wrote, not torch.save: save it again with torch.save"):
        checkpoints.build(FPN, file)
