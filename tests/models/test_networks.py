"""A detector's networks: what they are called and take, and a copy of the detector that calls others instead."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyrcnn import InputError, Targets, models
from pyrcnn.models import Detector, Network
from pyrcnn.models.layers import Float32Conv2d, Float32Layer, Float32Linear

SMALL: dict[str, dict[str, Any]] = {
    "centernet_mobilenet_v2_fpn_512": {"num_classes": 3, "input_size": 64},
    "centernet_hg104_512_kpts": {"num_classes": 3, "input_size": 128, "stem": 8, "dims": (16, 16, 24, 24, 24, 32)},
    "faster_rcnn_mobilenet_v2_fpn": {
        "num_classes": 3,
        "min_size": 64,
        "max_size": 96,
        "fpn_channels": 16,
        "rpn": {"after_nms": (40, 20)},
        "roi": {"width": 32, "score_threshold": 0.0},
    },
    "faster_rcnn_resnet50_v1_640": {"num_classes": 3, "max_size": 96, "rpn": {"after_nms": (40, 20)}},
}
LEVELS = {"faster_rcnn_mobilenet_v2_fpn": 5, "faster_rcnn_resnet50_v1_640": 1}


def small(name: str) -> Detector:
    torch.manual_seed(0)
    model = models.build(name, **SMALL[name]).eval()
    assert isinstance(model, Detector)
    return model


def images() -> list[Tensor]:
    return [torch.rand(3, 48, 64), torch.rand(3, 40, 30)]


class Counted:
    """A network that counts its calls and is no module."""

    def __init__(self, network: Network):
        self.module, self.calls = copy.deepcopy(network.module), 0

    def __call__(self, x: Tensor) -> Any:
        self.calls += 1
        return self.module(x)


@pytest.mark.parametrize("name", SMALL)
def test_a_network_takes_its_example(name: str) -> None:
    model = small(name)
    with torch.no_grad():
        out = {key: network.module(torch.zeros(network.example)) for key, network in model.networks().items()}
    if name.startswith("centernet"):
        cells = [side // 4 for side in model.input_size()]
        assert list(out) == ["maps"]
        assert {key: list(maps.shape[2:]) for key, maps in out["maps"].items()} == dict.fromkeys(out["maps"], cells)
        return
    assert list(out) == ["backbone", "proposals", "regions"]
    finest = model.networks()["proposals"].example
    assert list(out["backbone"][0].shape) == list(finest)
    assert len(out["backbone"]) == LEVELS[name]
    anchors = [tensor.shape[1] for tensor in out["proposals"]]
    assert anchors[1] == 4 * anchors[0]
    assert [tensor.shape[0] for tensor in out["regions"]] == [20, 20]
    assert out["regions"][0].shape[1] == 4


def test_examples_follow_the_size_of_the_input() -> None:
    model = small("faster_rcnn_mobilenet_v2_fpn")
    shapes = {name: network.example for name, network in model.networks((128, 160)).items()}
    assert shapes == {"backbone": (1, 3, 128, 160), "proposals": (1, 16, 32, 40), "regions": (20, 16, 7, 7)}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("kind", ["module", "function"])
def test_a_copy_with_the_same_networks_finds_the_same(name: str, kind: str) -> None:
    model = small(name)
    if kind == "module":
        replacements: dict[str, Any] = {k: copy.deepcopy(n.module) for k, n in model.networks().items()}
    else:
        replacements = {key: Counted(network) for key, network in model.networks().items()}
    replaced = model.with_networks(replacements)
    with torch.no_grad():
        for got, wanted in zip(replaced(images()), model(images()), strict=True):
            assert len(wanted) > 0
            assert torch.equal(got.boxes, wanted.boxes)
            assert torch.equal(got.scores, wanted.scores)
            assert torch.equal(got.labels, wanted.labels)
        pixels, sizes, _ = replaced.preprocess(images())
        if name.startswith("centernet"):
            same = zip(replaced.heads(pixels).values(), model.heads(pixels).values(), strict=True)
        else:
            same = zip(replaced.proposals(pixels, sizes), model.proposals(pixels, sizes), strict=True)
        assert all(torch.equal(got, wanted) for got, wanted in same)
    if kind == "function":
        once = {"backbone": 2, "proposals": 2 * LEVELS.get(name, 0), "regions": 1, "maps": 2}
        assert {key: counted.calls for key, counted in replacements.items()} == {key: once[key] for key in replacements}


@pytest.mark.parametrize("name", SMALL)
def test_a_copy_holds_no_replaced_weights_and_shares_nothing(name: str) -> None:
    model = small(name).train()
    modes = {path: module.training for path, module in model.named_modules()}
    replaced = model.with_networks({key: Counted(network) for key, network in model.networks().items()})
    assert list(replaced.parameters()) == []
    assert replaced.state_dict() == {}
    owned = {tensor.data_ptr() for tensor in model.buffers()}
    assert not owned & {tensor.data_ptr() for tensor in replaced.buffers() if tensor.numel()}
    assert not replaced.training
    assert {path: module.training for path, module in model.named_modules()} == modes
    assert any(parameter.requires_grad for parameter in model.parameters())


def test_networks_that_are_not_replaced_are_copied() -> None:
    model = small("faster_rcnn_mobilenet_v2_fpn")
    replaced = model.with_networks({"backbone": Counted(model.networks()["backbone"])})
    names = set(replaced.state_dict())
    assert names == {key for key in model.state_dict() if not key.startswith("backbone.")}
    ours = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert not ours & {tensor.data_ptr() for tensor in replaced.state_dict().values()}
    assert not any(parameter.requires_grad for parameter in replaced.parameters())


@pytest.mark.parametrize("name", ["centernet_mobilenet_v2_fpn_512", "faster_rcnn_mobilenet_v2_fpn"])
def test_a_copy_exports_and_compiles(name: str) -> None:
    class Padded(nn.Module):
        def __init__(self, model: Detector):
            super().__init__()
            self.model = model

        def forward(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
            return tuple(self.model.predict_padded(pixels, sizes))

    model = small(name)
    replaced = model.with_networks({key: copy.deepcopy(n.module) for key, n in model.networks().items()})
    pixels, sizes, _ = replaced.preprocess(images())
    with torch.no_grad():
        wanted = model.predict_padded(pixels, sizes)
        program = torch.export.export(Padded(replaced), (pixels, sizes)).module()
        compiled = torch.compile(replaced.predict_padded, fullgraph=True, backend="eager")
        for got in (program(pixels, sizes), compiled(pixels, sizes)):
            assert all(torch.equal(g, w) for g, w in zip(got, wanted, strict=True))


def test_a_copy_takes_the_dtype_and_the_device_that_are_given() -> None:
    model = small("centernet_mobilenet_v2_fpn_512")
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))
    assert copy.deepcopy(model).bfloat16().dtype == torch.bfloat16
    maps = copy.deepcopy(model.networks()["maps"].module).bfloat16()
    low = model.with_networks({"maps": maps}, dtype=torch.bfloat16)
    assert low.dtype == low.preprocess(images())[0].dtype == torch.bfloat16
    assert len(low(images())) == 2
    elsewhere = model.with_networks({"maps": maps}, device="meta")
    assert elsewhere.device == torch.device("meta")
    assert low.to("meta").device == torch.device("meta")


def test_what_a_copy_cannot_do_is_refused() -> None:
    model = small("faster_rcnn_mobilenet_v2_fpn")
    with pytest.raises(InputError, match=r"^replacements must be of backbone, proposals, regions, got 'maps'"):
        model.with_networks({"maps": nn.Identity()})
    for name in ("centernet_mobilenet_v2_fpn_512", "faster_rcnn_mobilenet_v2_fpn"):
        model = small(name)
        replaced = model.with_networks({key: Counted(network) for key, network in model.networks().items()})
        truth = [Targets(torch.tensor([[4.0, 4.0, 30.0, 30.0]]), torch.tensor([0]))] * 2
        with pytest.raises(InputError, match="^model must have its own networks to compute losses"):
            replaced(images(), truth)
        with pytest.raises(InputError, match="^model must have its own networks, got"):
            replaced.networks()


@pytest.mark.parametrize(
    ("name", "size", "multiple"),
    [
        ("centernet_hg104_1024", (1024, 1024), 128),
        ("centernet_mobilenet_v2_fpn_512", (512, 512), 32),
        ("centernet_resnet50_v2_512", (512, 512), 32),
        ("faster_rcnn_resnet50_fpn", (800, 1344), 32),
        ("faster_rcnn_resnet50_c4_detectron2", (800, 1333), 1),
        ("faster_rcnn_resnet50_v1_640", (640, 640), 32),
    ],
)
def test_the_size_of_the_input(name: str, size: tuple[int, int], multiple: int) -> None:
    with torch.device("meta"):
        model = models.build(name)
    assert (model.input_size(), model.size_multiple()) == (size, multiple)
    assert model.networks()[next(iter(model.PARTS))].example == (1, 3, *size)


# ---- layers that stay float32 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_last_layers_write_float32(name: str, dtype: torch.dtype) -> None:
    model = small(name)
    low = copy.deepcopy(model).to(dtype)
    for key, network in low.networks().items():
        with torch.no_grad():
            out = network.module(torch.rand(network.example, dtype=dtype))
        tensors = list(out.values() if isinstance(out, dict) else out)
        assert {tensor.dtype for tensor in tensors} == {dtype if key == "backbone" else torch.float32}
        for path, layer in network.module.named_modules():
            own = dict(layer.named_parameters(recurse=False))
            expected = torch.float32 if path in network.float32 else dtype
            assert {parameter.dtype for parameter in own.values()} <= {expected}, path
    exact = [path for path, layer in model.named_modules() if isinstance(layer, Float32Layer)]
    assert len(exact) >= 3
    for path in exact:
        assert torch.equal(low.get_submodule(path).weight, model.get_submodule(path).weight)


@pytest.mark.parametrize(
    ("layer", "shape"), [(Float32Conv2d(64, 3, 1), (2, 64, 5, 4)), (Float32Linear(64, 3), (7, 64))]
)
def test_a_float32_layer_multiplies_in_float32(layer: Any, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape).bfloat16()
    wanted = layer(x.float())
    assert torch.equal(copy.deepcopy(layer).bfloat16()(x), wanted)
    assert copy.deepcopy(layer).double()(x.double()).dtype == torch.float64
    assert copy.deepcopy(layer).double().half().weight.dtype == torch.float32


def test_a_float32_layer_follows_devices_and_memory_formats() -> None:
    layer = Float32Conv2d(8, 4, 3)
    moved = copy.deepcopy(layer).to(dtype=torch.bfloat16, memory_format=torch.channels_last)
    assert moved.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved.weight, layer.weight)
    away = layer.to("meta", torch.float16)
    assert (away.weight.device.type, away.weight.dtype) == ("meta", torch.float32)
    assert away.to_empty(device="cpu").weight.device.type == "cpu"


# ---- old names -------------------------------------------------------------------------------------------------------


def test_old_names_warn_and_do_the_same() -> None:
    model = small("centernet_mobilenet_v2_fpn_512")
    with pytest.warns(DeprecationWarning, match="resize_and_batch"):
        old = model.fit(images(), torch.float32)
    new = model.resize_and_batch(images(), torch.float32)
    truth = [Targets(torch.tensor([[4.0, 4.0, 20.0, 20.0]]), torch.tensor([0]))] * 2
    with pytest.warns(DeprecationWarning, match="batch_loss"):
        losses = model.fitted_loss(*old, truth)
    assert losses == model.batch_loss(*new, truth)
