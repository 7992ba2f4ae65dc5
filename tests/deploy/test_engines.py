"""Every engine computes what the model computes, for any size and batch, from any thread; "auto" chooses among them."""

from __future__ import annotations

import functools
import importlib.util
import threading
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from pyrcnn import InputError, deploy
from pyrcnn.deploy import engines, machine
from pyrcnn.deploy.engines import base, inductor, openvino, portable
from pyrcnn.models.layers import Float32Layer
from tests.deploy.small import as_on, images, small

MOBILE = "centernet_mobilenet_v2_fpn_512"
FASTER = "faster_rcnn_mobilenet_v2_fpn"
PORTABLE = ("openvino", "onnxruntime")
# Together they have every kind of layer: paddings, poolings, pyramids, transposed convolutions, convolutional RoI heads
PRESETS = (
    MOBILE,
    "centernet_resnet50_v2_512",
    "centernet_hg104_512",
    FASTER,
    "faster_rcnn_vgg16",
    "faster_rcnn_resnet50_c4",
    "faster_rcnn_resnet50_fpn_v2",
    "faster_rcnn_resnet50_v1_640",
)


def optimized(engine: str, model: Any, dtype: torch.dtype | None = None) -> Any:
    for package in engines.ENGINES[engine].packages:
        pytest.importorskip(package)
    return deploy.optimize(model, dtype, engine=engine)


@functools.cache
def pair(engine: str, name: str) -> tuple[Any, Any]:
    """The small preset and what ``engine`` makes of it: tests share them, because conversion takes seconds."""
    model = small(name)
    return model, optimized(engine, model)


def raw(model: Any, pixels: Tensor) -> list[Tensor]:
    """Outputs of all networks, before anything is ranked."""
    if hasattr(model, "heads"):
        return list(model.heads(pixels).values())
    features = model.backbone(pixels)
    logits, deltas = model.rpn.predict(features)
    boxes = torch.tensor([[[4.0, 4.0, 60.0, 50.0], [10.0, 20.0, 40.0, 60.0], [0.0, 0.0, 90.0, 60.0]]])
    return [*features, *logits, *deltas, *model.roi(features, boxes.expand(len(pixels), -1, -1), *pixels.shape[-2:])]


@pytest.mark.parametrize(("engine", "name"), [*(("openvino", name) for name in PRESETS),
                                              *(("onnxruntime", name) for name in PRESETS[:5])])  # fmt: skip
@torch.no_grad()
def test_networks_compute_the_same_for_every_size(engine: str, name: str) -> None:
    model, fast = pair(engine, name)
    multiple = model.size_multiple()
    for batch, height, width in ((1, 2, 3), (3, 1, 2), (2, 5, 3), (1, 2, 3)):
        pixels = torch.randn(batch, 3, height * multiple, width * multiple)
        for ours, theirs in zip(raw(fast.model, pixels), raw(model, pixels), strict=True):
            assert ours.shape == theirs.shape
            assert ours.dtype == theirs.dtype
            assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


@pytest.mark.parametrize("engine", PORTABLE)
@pytest.mark.parametrize("name", [MOBILE, FASTER])
def test_detections_are_the_models(engine: str, name: str) -> None:
    model, fast = pair(engine, name)
    assert (fast.engine, fast.dtype, fast.device.type) == (engine, torch.float32, "cpu")
    kept = []
    for given in (images((60, 90)), images((33, 48), (96, 31), (64, 64)), images((60, 90))):
        wanted = model.predict_padded(*model.preprocess(given)[:2])
        found = fast.predict_padded(*fast.preprocess(given)[:2])
        torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-4, atol=1e-4)
        clear = (
            wanted.scores[:, :1] > wanted.scores[:, 1:2] + 1e-3
        )  # other rounding may change the order of equal scores
        for ours, theirs in ((found.boxes, wanted.boxes), (found.labels, wanted.labels)):
            torch.testing.assert_close(ours[:, :1][clear], theirs[:, :1][clear], rtol=1e-3, atol=1e-2)
        kept.append((found, [x.clone() for x in found]))
        assert [len(x) for x in fast(given)] == [int(n) for n in found.counts]
    assert fast([]) == []
    for found, copies in kept:  # later calls did not write to earlier results
        assert all(map(torch.equal, found, copies))


@pytest.mark.parametrize("engine", PORTABLE)
@torch.no_grad()
def test_results_are_not_overwritten(engine: str) -> None:
    _, fast = pair(engine, MOBILE)
    batches = [torch.randn(1, 3, 64, 96) for _ in range(3)]
    results = [fast.heads(x) for x in batches]
    copies = [{name: x.clone() for name, x in maps.items()} for maps in results]
    again = [fast.heads(x) for x in batches]
    for first, copy, second in zip(results, copies, again, strict=True):
        for name, x in first.items():
            assert torch.equal(x, copy[name])
            assert torch.equal(x, second[name])
    channels_last = batches[0].contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(x, results[0][name]) for name, x in fast.heads(channels_last).items())


@torch.no_grad()
def test_openvino_compiles_a_bounded_number_of_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "MAX_PROGRAMS", 2)
    model, fast = pair("openvino", MOBILE)
    shared = fast.model.backbone.function
    programs = openvino._Programs(shared.model, shared.results)
    for width in (1, 2, 3, 1, 3, 3, 2):
        pixels = torch.randn(1, 3, 32, 32 * width)
        for name, ours in programs(pixels).items():
            theirs = model.heads(pixels)[name]
            assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    assert [shape[-1] // 32 for shape in programs.programs] == [1, 3]
    assert [shape[-1] // 32 for shape in programs.seen] == [2]


@pytest.mark.parametrize("engine", ["native", *PORTABLE])
@pytest.mark.parametrize("name", [MOBILE, FASTER])
def test_threads_may_call_it_at_once(engine: str, name: str) -> None:
    _, fast = pair(engine, name)
    batches = [fast.preprocess(images(*sizes))[:2] for sizes in ([(60, 90)], [(96, 40), (50, 50)], [(31, 64)])]
    wanted = [fast.predict_padded(*batch) for batch in batches]
    wrong: list[Any] = []

    def work(first: int) -> None:
        try:
            for turn in range(6):
                index = (first + turn) % len(batches)
                found = fast.predict_padded(*batches[index])
                wrong.extend(index for x, y in zip(found, wanted[index], strict=True) if not torch.equal(x, y))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@torch.no_grad()
def test_openvino_in_bfloat16_ends_in_float32() -> None:
    if not machine.machine().bfloat16:
        with pytest.raises(InputError, match=r"dtype must be torch.float32 for engine openvino on a processor without"):
            optimized("openvino", small(MOBILE), torch.bfloat16)
        return
    for name in (MOBILE, FASTER):
        model = small(name)
        for layer in model.modules():
            if isinstance(layer, Float32Layer):  # a bias of zeros would not be computed
                torch.nn.init.normal_(layer.bias)
        fast, torchs = optimized("openvino", model, torch.bfloat16), deploy.optimize(model, torch.bfloat16, fuse=False)
        pixels = torch.randn(1, 3, 64, 96)
        results = [raw(m, pixels.to(m.dtype)) for m in (fast.model, torchs.model, model)]
        for ours, theirs, exact in zip(*results, strict=True):
            assert ours.dtype == theirs.dtype
            assert ours.dtype == torch.bfloat16 or not torch.equal(ours, ours.bfloat16().float())
            assert (ours - exact).norm() <= 1.2 * (theirs - exact).norm()


@pytest.mark.parametrize(("engine", "message"), [
    ("openvino", r"^engine openvino needs the package openvino: pip install openvino$"),
    ("onnxruntime", r"^engine onnxruntime needs the packages onnxruntime and onnx and onnxscript: "
                    r"pip install onnxruntime onnx onnxscript$"),
])  # fmt: skip
def test_a_missing_package_is_one_line(engine: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=message):
        deploy.optimize(small(MOBILE), engine=engine)


def choice(model: Any, dtype: torch.dtype, device: str = "cpu") -> str:
    return engines.choose_engine("auto", model, base.Options(torch.device(device), dtype)).name


def test_auto_is_the_fastest_of_the_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(MOBILE)
    installed: set[str] = set()
    monkeypatch.setattr(base, "find_spec", lambda name: name in installed or None)
    for bfloat16 in (False, True):
        as_on(monkeypatch, bfloat16=bfloat16)
        for packages in (set(), {"openvino"}):
            installed = packages
            assert choice(model, torch.float32) == choice(model, torch.float16) == "native"
            assert choice(model, torch.bfloat16, "cuda") == "native"
            fastest = "openvino" if bfloat16 and packages else "native"
            assert choice(model, torch.bfloat16) == fastest
    assert choice(small(FASTER, size_divisor=16), torch.bfloat16) == "native"  # which OpenVINO does not support
    for option in ("channels_last", "fuse", "winograd", "chain"):
        assert deploy.optimize(model, torch.bfloat16, **{option: False}).engine == "native"


def test_auto_never_needs_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    for bfloat16 in (False, True):
        as_on(monkeypatch, bfloat16=bfloat16)
        for dtype in deploy.DTYPES:
            for row in engines.FASTEST:
                assert engines.ENGINES[choice(small(MOBILE), row.dtype or dtype)].missing() == []


def test_what_engines_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: True)
    model = small(MOBILE)
    as_on(monkeypatch, bfloat16=False)
    for engine, dtype, wanted in (
        ("onnxruntime", torch.bfloat16, "dtype must be torch.float32 for engine onnxruntime, got torch.bfloat16"),
        ("openvino", torch.float16, "dtype must be torch.float32 or torch.bfloat16 for engine openvino"),
        ("openvino", torch.bfloat16, "dtype must be torch.float32 for engine openvino on a processor without bfloat16"),
    ):
        with pytest.raises(InputError, match=wanted):
            deploy.optimize(model, dtype, engine=engine)
    with pytest.raises(InputError, match="engine openvino needs a model whose image sides are multiples of 32, got"):
        deploy.optimize(small(FASTER, size_divisor=16), engine="openvino")
    with pytest.raises(InputError, match="engine openvino needs a model on the CPU, got one on cuda:0"):
        engines.choose_engine("openvino", model, base.Options(torch.device("cuda:0"), torch.float32))


@pytest.mark.parametrize("engine", PORTABLE)
def test_sizes_that_an_engine_does_not_take(engine: str) -> None:
    _, fast = pair(engine, MOBILE)
    message = f"pixels must have sides that are multiples of 32 for engine {engine}, got 64 x 80"
    with pytest.raises(InputError, match=message):
        fast.predict_padded(torch.zeros(1, 3, 64, 80), torch.tensor([[64, 80]]))


def test_shapes_of_results_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "MAX_SHAPES", 3)
    results = portable.Results(torch.fx.symbolic_trace(torch.nn.Conv2d(1, 2, 1)), torch.bfloat16, (1, 1, 1, 1))
    for width in (1, 2, 3, 4, 5, 4):
        (result,), _ = pytree.tree_flatten(pytree.tree_unflatten(*results.allocate((1, 1, 2, width))))
        assert (result.shape, result.dtype, result.device.type) == ((1, 2, 2, width), torch.bfloat16, "cpu")
    assert [key[-1] for key in results.known] == [3, 4, 5]


def test_inductor_compiles_a_bounded_number_of_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inductor, "MAX_SHAPES", 2)
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda module, **_: compiled.append(module) or module)
    graph = torch.fx.symbolic_trace(torch.nn.Conv2d(1, 2, 1))
    run = inductor.CompiledPerShape(graph, None)
    for width in (1, 2, 3, 1, 3, 2):
        x = torch.randn(1, 1, 2, width)
        assert torch.equal(run(x), graph(x))
    assert len(compiled) == len({id(module.forward.__code__) for module in compiled}) == 2


def test_every_optional_package_has_a_name_that_python_finds() -> None:
    for engine in engines.ENGINES.values():
        assert all(package.isidentifier() for package in engine.packages)
        assert engine.missing() == [name for name in engine.packages if importlib.util.find_spec(name) is None]
