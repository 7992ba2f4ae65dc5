"""An optimized model computes what its original computes, and leaves it alone."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from pyrcnn import Detections, InputError, build_info, checkpoints, deploy, evaluate, models, ops
from pyrcnn.checkpoints import bundled
from pyrcnn.deploy import machine
from pyrcnn.deploy.engines.native.fusion import NONE, RELU, RELU6
from pyrcnn.deploy.engines.native.pack import PackedLinear
from pyrcnn.deploy.fold import fold_norms_
from pyrcnn.deploy.fx_graph import trace
from tests.conftest import python
from tests.deploy.small import as_on, images, small
from tests.detector import TinyDetector, dataset

MOBILE = "centernet_mobilenet_v2_fpn_512"
FASTER = "faster_rcnn_mobilenet_v2_fpn"
PRESETS = [name for name in models.names() if "1024" not in name and "101" not in name]  # the others differ in depth
QUICK = (
    MOBILE,
    FASTER,
    "centernet_hg104_512",
    "centernet_resnet50_v2_512",
    "faster_rcnn_vgg16",
    "faster_rcnn_resnet50_fpn",
)


def raw(model: Any, pixels: Tensor, sizes: Tensor) -> list[Tensor]:
    """Outputs of the networks, before anything is ranked: maps, or pyramid, proposals' logits, classes and boxes."""
    if hasattr(model, "heads"):
        return list(model.heads(pixels).values())
    features = model.backbone(pixels)
    logits, deltas = model.rpn.predict(features)
    boxes = torch.tensor([[[4.0, 4.0, 60.0, 50.0], [10.0, 20.0, 40.0, 60.0]]] * len(pixels))
    boxes = boxes.repeat(1, 5, 1)  # as many as the configuration proposes
    return [*features, *logits, *deltas, *model.roi(features, boxes, *pixels.shape[-2:])]


PLAIN = {"fuse": False, "channels_last": False}
PLAIN_TOO = (MOBILE, FASTER, "centernet_resnet50_v2_512", "faster_rcnn_resnet50_fpn", "faster_rcnn_vgg16")


@pytest.mark.parametrize(
    ("name", "options"),
    [*(pytest.param(name, {}, marks=[] if name in QUICK else pytest.mark.slow) for name in PRESETS),
     *((name, PLAIN) for name in PLAIN_TOO)],
    ids=[*PRESETS, *(f"{name}-folded" for name in PLAIN_TOO)],
)  # fmt: skip
def test_every_family_computes_the_same(name: str, options: dict[str, Any]) -> None:
    model = small(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = deploy.optimize(model, **options)
    given = images()
    with torch.no_grad():
        pixels, sizes, _ = model.preprocess(given)
        wanted = raw(model, pixels, sizes)
        got = raw(fast.model, fast.preprocess(given)[0], sizes)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for ours, theirs in zip(got, wanted, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    assert not [m for m in fast.modules() if isinstance(m, ops.FrozenBatchNorm2d)]
    if "v2_512" not in name or "mobilenet" in name:  # ResNet V2's stand before activations
        assert not [m for m in fast.modules() if isinstance(m, nn.BatchNorm2d)]
    found = fast(images((60, 90), (33, 48)))
    assert [type(f) for f in found] == [Detections] * 2
    padded = fast.predict_padded(pixels, sizes)
    assert [x.shape for x in padded] == [x.shape for x in model.predict_padded(pixels, sizes)]


@pytest.mark.parametrize("name", [MOBILE, FASTER, "faster_rcnn_vgg16"])
def test_boxes_are_float32_whatever_the_network_computes_in(name: str) -> None:
    fast = deploy.optimize(small(name), torch.bfloat16, engine="native")
    pixels, sizes, _ = fast.preprocess(images((60, 90)))
    assert pixels.dtype == torch.bfloat16
    padded = fast.predict_padded(pixels.float(), sizes)
    assert padded.boxes.dtype == padded.scores.dtype == torch.float32
    assert padded.counts.item() > 0
    assert not torch.equal(padded.boxes, padded.boxes.bfloat16().float())  # nor are they rounded


@pytest.fixture(scope="module")
def trained() -> Any:
    model = models.load(bundled.weights()[FASTER])
    model.config = replace(model.config, min_size=256, max_size=341)
    return model


@pytest.mark.parametrize("options", [{}, {"dtype": torch.bfloat16}, {"dtype": torch.float16, "fold": False}],
                         ids=["float32", "bfloat16", "float16"])  # fmt: skip
def test_detections_are_the_originals(trained: Any, options: dict[str, Any]) -> None:
    fast = deploy.optimize(trained, **options)
    image = bundled.images()[0]
    with torch.no_grad():
        wanted = trained([image])[0]
    got = fast([image])[0]
    sure = wanted[wanted.scores > 0.5]
    assert len(sure) >= 5
    overlap = ops.box_iou(sure.boxes, got.boxes).where(sure.labels[:, None] == got.labels, 0)
    best, match = overlap.max(1)
    low = "dtype" in options
    assert (best > (0.8 if low else 0.999)).all()
    torch.testing.assert_close(got.scores[match], sure.scores, rtol=0, atol=0.15 if low else 1e-4)
    assert got.boxes.dtype == got.scores.dtype == torch.float32


def test_the_calls_are_the_models(tmp_path: Any) -> None:
    model = small(MOBILE, num_classes=2)
    model.classes, model.category_ids = ["cell", "disc"], [3, 5]
    fast = deploy.optimize(model)
    assert (fast.classes, fast.category_ids, fast.config) == (model.classes, model.category_ids, model.config)
    assert fast([]) == []
    pixels, sizes, scales = fast.preprocess(images())
    wanted = model.preprocess(images())
    assert pixels.is_contiguous(memory_format=fast.layout)
    unchained = deploy.optimize(model, chain=False)
    assert unchained.preprocess(images())[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(sizes, wanted[1])
    assert torch.equal(scales, wanted[2])
    found = fast.predict_padded(pixels, sizes)
    assert not found.boxes.requires_grad
    other = fast.predict_padded(pixels.flip(0), sizes.flip(0))
    assert fast.predict_padded(pixels.flip(0), sizes.flip(0), out=found) is found
    assert all(map(torch.equal, found, other))
    with pytest.raises(InputError, match=r"out.boxes must be"):
        fast.predict_padded(pixels[:1], sizes[:1], out=found)
    assert evaluate.coco(fast, dataset(tmp_path))["AP"] >= 0
    faster = deploy.optimize(small(FASTER))
    pixels, sizes, _ = faster.preprocess(images())
    assert faster.proposals(pixels.double(), sizes)[0].shape == (2, 10, 4)
    for call, message in (
        (lambda: faster.heads(pixels), "heads needs a CenterNet, got FasterRCNN"),
        (lambda: fast.proposals(pixels, sizes), "proposals needs a FasterRCNN, got CenterNet"),
        (lambda: fast(images(), []), "targets must be None"),
        (lambda: fast.train(), "mode must be False"),
        (lambda: fast.half(), "model is optimized for torch.float32 on cpu, not torch.float16"),
        (
            lambda: deploy.optimize(TinyDetector()),
            "model must be a detector, such as a CenterNet or FasterRCNN, got TinyDetector",
        ),
        (lambda: deploy.optimize(model, torch.int8), "dtype must be one of"),
        (lambda: deploy.optimize(TinyDetector(), "auto"), "model must be a detector"),
        (lambda: deploy.optimize(fast), "model must be a detector.*got Optimized"),
        (lambda: deploy.optimize(fast.model), "model must have its own networks"),
        (
            lambda: deploy.optimize(model, engine="tensorrt"),
            "engine must be auto, native, inductor, openvino, onnxruntime",
        ),
        (lambda: deploy.optimize(model, size=(0, 64)), "size must be two positive integers, height and width"),
        (lambda: deploy.optimize(model, size=64), "size must be two positive integers"),
        (lambda: fast.state_dict(), "model is optimized for this process"),
        (lambda: fast.load_state_dict(model.state_dict()), "model is optimized for this process"),
        (lambda: checkpoints.save(fast, tmp_path / "fast.safetensors"), "model is optimized for this process"),
        (lambda: copy.deepcopy(fast), "model is optimized for this process"),
        (lambda: pickle.dumps(fast), "model is optimized for this process"),
        (lambda: deploy.optimize(model, "bf16"), "dtype must be a torch.dtype, None or 'auto'"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    assert fast.to("cpu").eval() is fast


def test_autocast_on_the_cpu_changes_nothing() -> None:
    model = small("centernet_resnet50_v2_512")
    fast = deploy.optimize(model)
    pixels, sizes, _ = fast.preprocess(images())
    wanted = fast.predict_padded(pixels, sizes), fast.heads(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        found = fast.predict_padded(pixels, sizes), fast.heads(pixels)
    assert all(map(torch.equal, found[0], wanted[0]))
    assert all(torch.equal(found[1][name], value) for name, value in wanted[1].items())


def test_any_size_runs_after_packing_for_one() -> None:
    model = small(MOBILE)
    fast = deploy.optimize(model, size=(64, 64))
    for height, width in ((32, 32), (64, 96), (160, 128)):
        pixels = torch.randn(1, 3, height, width)
        with torch.no_grad():
            for name, value in model.heads(pixels).items():
                torch.testing.assert_close(fast.heads(pixels)[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", [NONE, RELU, RELU6])
def test_packed_linear_layers_compute_the_same(activation: Any) -> None:
    linear, x = nn.Linear(20, 30), 3 * torch.randn(7, 20)
    wanted = {NONE[0]: lambda y: y, RELU[0]: torch.relu, RELU6[0]: nn.functional.relu6}[activation[0]](linear(x))
    torch.testing.assert_close(PackedLinear(linear, activation, (7, 20))(x), wanted, rtol=1e-4, atol=1e-5)


def test_auto_is_the_fastest_dtype_of_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for bfloat16, wanted in ((False, torch.float32), (True, torch.bfloat16)):
        as_on(monkeypatch, bfloat16=bfloat16)
        assert deploy.fastest_dtype(cpu) == wanted
        assert deploy.optimize(small("centernet_resnet50_v1_fpn_512"), "auto", engine="native").dtype == wanted
    for able, wanted in (((9, 0), torch.bfloat16), ((7, 5), torch.float16), ((6, 1), torch.float32)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, able=able: able)
        assert deploy.fastest_dtype(cuda) == wanted


def test_auto_keeps_depthwise_networks_in_float32_where_they_run_as_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    as_on(monkeypatch, bfloat16=True)
    assert deploy.optimize(small(MOBILE), "auto", engine="native").dtype == torch.float32
    assert deploy.optimize(small(MOBILE), "auto", chain=False).dtype == torch.bfloat16
    assert deploy.optimize(small(MOBILE), torch.bfloat16, engine="native").dtype == torch.bfloat16


def test_the_processor_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities in ({}, {"avx512_bf16": True}, {"amx_bf16": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=capabilities: able, raising=False)
        for supported in (False, True):
            monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda able=supported: able)
            found = machine._detect()
            assert found.bfloat16 == (bool(capabilities) and supported)
            assert (torch.bfloat16 in found.packed) == supported
            assert found.kernels == build_info()["cpu_capability"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"fuse": False}], ids=["packed", "plain"])
def test_the_last_layers_are_float32(dtype: torch.dtype, options: dict[str, Any]) -> None:
    centernet = deploy.optimize(small(MOBILE), dtype, engine="native", **options)
    faster = deploy.optimize(small(FASTER), dtype, engine="native", **options)
    maps = centernet.model.heads(torch.randn(1, 3, 64, 64).to(dtype))
    features = faster.model.backbone(torch.randn(1, 3, 64, 64).to(dtype))
    assert {x.dtype for x in features} == {dtype}
    results = [*maps.values(), *faster.model.rpn.head(features[0])]
    boxes = torch.tensor([[[4.0, 4.0, 60.0, 50.0]] * 10])
    results += faster.model.roi(features, boxes, 64, 64)
    for x in results:
        assert x.dtype == torch.float32
        assert not torch.equal(x, x.to(dtype).float())


def test_deprecated_arguments_still_work() -> None:
    model = small(MOBILE)
    with pytest.warns(DeprecationWarning, match="tiles is deprecated and has no effect"):
        assert deploy.optimize(model, tiles=False).engine == "native"
    with pytest.warns(DeprecationWarning, match='use engine="inductor"'):
        assert deploy.optimize(model, compile=True).engine == "inductor"


class Folding(nn.Module):
    """Norms that can be folded into a convolution and norms that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.up_norm = nn.ConvTranspose2d(3, 4, 3, 2), nn.BatchNorm2d(4)
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.shared, self.late = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.before = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up_norm(self.up(x)[..., :-1, :-1]).relu()
        x = self.norm(self.conv(x)) + x
        y = self.shared(x)
        return self.late(y) + y + self.shared(self.before(x))


def test_only_norms_after_their_own_convolution_are_folded() -> None:
    module = Folding().eval()
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 5, 6)
    with torch.no_grad():
        wanted = module(x)
        folded = trace(module)
        fold_norms_(folded)
        torch.testing.assert_close(folded(x), wanted, rtol=1e-4, atol=1e-4)
    assert isinstance(folded, fx.GraphModule)
    left = {name for name, m in folded.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert left == {"late", "before"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [MOBILE, FASTER])
def test_compiled_models_compute_the_same(name: str) -> None:
    model = small(name)
    fast = deploy.optimize(model, engine="inductor")
    pixels, sizes, _ = model.preprocess(images())
    with torch.no_grad():
        wanted = model.predict_padded(pixels, sizes)
    torch.testing.assert_close(fast.predict_padded(pixels, sizes).scores, wanted.scores, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's own")
def test_large_blocks_are_kept_for_the_next_call() -> None:
    # The smallest of many: a freed block is a few bytes too short for the next aligned request of its size while what
    # the first one left over beside it lies in glibc's cache of small blocks. That holds seven of each size, so the
    # first dozens of calls may fault. C's malloc tells whether this process's heap can keep anything: where it cannot
    # grow (a limit on data, another allocator preloaded), glibc maps every block anew.
    code = """import ctypes, resource, torch
from pyrcnn.memory import keep_freed_memory

libc, size = ctypes.CDLL(None), 36 << 20  # more than glibc ever keeps by itself
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes, libc.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]

def by_libc():
    block = libc.malloc(size)
    libc.memset(block, 1, size)
    libc.free(block)

def faults(call):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = min(faults(lambda: torch.ones(size // 4)) for _ in range(8))
assert keep_freed_memory()
again = min(faults(lambda: torch.ones(size // 4)) for _ in range(64))
print(fresh, again, min(faults(by_libc) for _ in range(8)))"""
    command, folder = python(code)
    fresh, again, by_libc = map(
        int, subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True).stdout.split()
    )
    if by_libc >= fresh / 10:
        pytest.skip("the C library cannot keep a block of this size here")
    assert again < fresh / 10
