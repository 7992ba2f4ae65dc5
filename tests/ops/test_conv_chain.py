"""A chain computes what its convolutions compute one after another."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyrcnn import InputError
from pyrcnn.deploy.engines.native.ops import conv_chain as ops
from pyrcnn.deploy.engines.native.ops.conv_chain import NO_LIMITS, chain_weight, conv_chains
from tests.ops.checks import strided, whatever_the_threads
from tests.reference import conv_chain as reference

RELU6 = (0.0, 6.0)
ops_op = torch.ops.pyrcnn._conv_chains.default


class Chain(NamedTuple):
    """Channels and sizes of one chain; a convolution with 0 channels is missing."""

    images: int = 1
    inputs: int = 16
    height: int = 6
    width: int = 7
    expand: int = 0
    depthwise: bool = True
    project: int = 16
    last: int = 0
    stride: int = 1
    padding: tuple[int, ...] = (1, 1, 1, 1)
    up: int = 1  # 2: what is added is half as high and wide
    window_stride: int = 0  # of expand as a 3x3 convolution
    window_padding: tuple[int, ...] = (0, 0, 0, 0)


NO_PADDING = (0, 0, 0, 0)
# channels around 16 and 8, fewer pixels than are multiplied at a time, sizes below the kernel
SMALL = [
    Chain(),
    Chain(images=2, inputs=5, expand=30, project=8),
    Chain(inputs=3, height=5, width=4, expand=18, project=24, stride=2, padding=(0, 0, 1, 1)),
    Chain(inputs=4, height=5, width=9, expand=33, project=1, stride=2),
    Chain(inputs=24, project=40, last=2, images=2),
    Chain(inputs=9, project=17, last=11, height=3, width=3),
    Chain(inputs=7, depthwise=False, project=10, padding=(0, 0, 0, 0)),
    Chain(inputs=7, depthwise=False, expand=50, project=20, images=3, padding=(0, 0, 0, 0)),
    Chain(inputs=20, depthwise=False, project=35, last=12, padding=(0, 0, 0, 0)),
    Chain(inputs=6, height=1, width=1, expand=12, project=6),
    Chain(inputs=6, height=2, width=1, project=6, padding=(0, 2, 1, 0)),
    Chain(inputs=6, height=4, width=5, expand=7, project=3, padding=(2, 2, 2, 2)),
    Chain(inputs=6, height=3, width=8, expand=20, project=9, stride=2, padding=(0, 0, 0, 0)),
    *(Chain(inputs=5, project=48, last=few, images=2) for few in (1, 2, 3, 4)),
    Chain(inputs=7, depthwise=False, project=10, images=2, height=4, width=6, padding=NO_PADDING, up=2),
    Chain(inputs=7, expand=20, project=18, images=2, height=6, width=8, up=2),
    Chain(inputs=5, project=32, last=2, height=4, width=4, up=2),
    Chain(inputs=3, expand=20, project=9, height=9, width=8, window_stride=2, window_padding=(0, 0, 1, 1)),
    Chain(inputs=3, expand=17, project=5, height=7, width=8, stride=2, window_stride=1, window_padding=(1, 2, 0, 1)),
    Chain(inputs=2, expand=4, project=5, height=2, width=3, window_stride=2, window_padding=(1, 1, 1, 1)),
    Chain(inputs=3, expand=4, project=3, last=2, height=5, width=5, window_stride=2),
]
# several blocks per side, channels in several chunks
LARGE = [
    Chain(inputs=24, height=35, width=150, expand=40, project=24),
    Chain(inputs=20, height=41, width=135, expand=24, project=34, stride=2, padding=(0, 0, 1, 1)),
    Chain(images=2, inputs=160, height=16, width=16, expand=960, project=160),
    Chain(inputs=64, height=20, width=33, expand=384, project=90),
    Chain(inputs=24, height=30, width=70, project=256, last=90),
    Chain(images=3, inputs=320, height=9, width=20, expand=1280, depthwise=False, project=64, padding=(0, 0, 0, 0)),
    Chain(inputs=24, height=30, width=134, project=256, last=2),
    Chain(images=2, inputs=24, height=18, width=140, depthwise=False, project=40, padding=NO_PADDING, up=2),
    Chain(images=2, inputs=3, height=70, width=262, expand=32, window_stride=2, window_padding=(0, 0, 1, 1)),
    Chain(images=2, inputs=3, height=69, width=262, expand=32, window_stride=2, window_padding=(1, 1, 1, 1)),
]


def sample(chain: Chain) -> dict[str, Any]:
    """The layers (weight, bias, low, high) by name, ``x`` and ``other``."""
    g = torch.Generator().manual_seed(0)
    middle = chain.expand or chain.inputs

    def layer(outputs: int, inputs: int, kernel: int, limits: tuple[float, float]) -> reference.Layer:
        scale = 2 / math.sqrt(inputs * kernel * kernel)
        return (scale * torch.randn(outputs, inputs, kernel, kernel, generator=g),
                torch.randn(outputs, generator=g), *limits)  # fmt: skip

    relu = (0.0, math.inf)
    made: dict[str, Any] = {
        "x": 2 * torch.randn(chain.images, chain.inputs, chain.height, chain.width, generator=g),
        "expand": layer(chain.expand, chain.inputs, 3 if chain.window_stride else 1, RELU6) if chain.expand else None,
        "filters": layer(middle, 1, 3, (-1.0, 5.0)) if chain.depthwise else None,
        "project": layer(chain.project, middle, 1, relu if chain.last else (-3.0, 4.0)),
        "last": layer(chain.last, chain.project, 1, (-2.0, math.inf)) if chain.last else None,
    }
    images, outputs, rows, columns = run(made, chain).shape
    made["other"] = torch.randn(images, outputs, rows // chain.up, columns // chain.up, generator=g)
    return made


def run(made: dict[str, Any], chain: Chain, x: Tensor | None = None, other: Tensor | None = None) -> Tensor:
    stages = [made[name] for name in ("expand", "filters", "project", "last")]
    weights = [stage and chain_weight(*stage[:2]) for stage in stages]
    limits = [x for stage in stages for x in (stage[2:] if stage else NO_LIMITS[:2])]
    x = made["x"] if x is None else x
    maps = [x] if other is None else [x, other]
    channels = chain.expand or chain.inputs, chain.project, chain.last or chain.project
    native = ops.Chain(*weights, channels, chain.stride, chain.padding, limits, other=-1 if other is None else 1,
                       up=1 if other is None else chain.up, window_stride=chain.window_stride,
                       window_padding=chain.window_padding)  # fmt: skip
    (result,) = conv_chains(maps, [native])
    return result


def torchs(made: dict[str, Any], chain: Chain, other: Tensor | None) -> Tensor:
    """By torch, in float64."""
    x = made["x"].double()
    top, left, bottom, right = chain.padding
    for name in ("expand", "filters", "project", "last"):
        if made[name] is not None:
            weight, bias, low, high = made[name]
            if name == "expand" and chain.window_stride:
                above, before, below, after = chain.window_padding
                x = F.conv2d(F.pad(x, (before, after, above, below)), weight.double(), bias.double(),
                             chain.window_stride)  # fmt: skip
            elif name == "filters":
                x = F.conv2d(F.pad(x, (left, right, top, bottom)), weight.double(), bias.double(), chain.stride,
                             groups=len(weight))  # fmt: skip
            else:
                x = F.conv2d(x, weight.double(), bias.double())
            if other is not None and name == ("last" if chain.last else "project"):
                x = x + (reference.doubled(other) if chain.up == 2 else other)
            x = x.clamp(low, high)
    return x


@pytest.mark.parametrize("chain", SMALL, ids=str)
def test_it_equals_the_reference(chain: Chain) -> None:
    made = sample(chain)
    layers = [made[name] for name in ("expand", "filters", "project", "last")]
    x, other = made["x"], made["other"]
    for added in (None, other):
        full = reference.doubled(other) if chain.up == 2 and added is not None else added
        wanted = reference.conv_chain(
            x, *layers, full, chain.stride, chain.padding, chain.window_stride, chain.window_padding
        )
        got = run(made, chain, other=added)
        assert got.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=2e-5)
        last = torch.channels_last
        for layout in (lambda t: t.contiguous(memory_format=last), strided):
            again = run(made, chain, layout(x), None if added is None else layout(added))
            assert torch.equal(again, got)


@pytest.mark.parametrize("chain", LARGE, ids=str)
def test_it_equals_torch_with_any_number_of_threads(chain: Chain) -> None:
    made = sample(chain)
    result = whatever_the_threads(lambda: run(made, chain, other=made["other"]))
    torch.testing.assert_close(result.double(), torchs(made, chain, made["other"]), rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("shape", [(0, 16, 8, 8), (2, 16, 0, 8), (1, 16, 8, 0)])
def test_empty_maps(shape: tuple[int, ...]) -> None:
    made = sample(Chain())
    assert run(made, Chain(), torch.zeros(shape)).shape == shape
    assert run(made, Chain(padding=(0, 0, 0, 0)), torch.zeros(1, 16, 2, 5)).shape == (1, 16, 0, 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "chain",
    [Chain(expand=32), Chain(project=40, last=4), Chain(project=48, last=2), Chain(expand=32, window_stride=1)],
    ids=["block", "head", "slim head", "first"],
)
def test_nan_and_infinity_spread_no_further_than_the_kernel(value: float, chain: Chain) -> None:
    made = sample(chain)
    clean = run(made, chain)
    made["x"][0, 3, 0, 0] = value
    got, wanted = run(made, chain), torchs(made, chain, None)
    assert torch.equal(got.isnan(), wanted.isnan())
    assert not math.isnan(value) or got[..., :2, :2].isnan().all()
    assert torch.equal(got[..., 2:, :], clean[..., 2:, :])
    assert torch.equal(got[..., 2:], clean[..., 2:])


def several() -> tuple[list[Tensor], list[ops.Chain]]:
    """Inputs 0 and 1, and chains that read each other's results: 2 → 3 → 4 → 5; the first adds 0, the last reads 1."""
    g = torch.Generator().manual_seed(1)

    def weight(*shape: int) -> Tensor:
        return chain_weight(torch.randn(*shape, generator=g) / 4, torch.randn(shape[0], generator=g))

    def block(inputs: int, middle: int, outputs: int, **options: Any) -> ops.Chain:
        return ops.Chain(weight(middle, inputs, 1, 1), weight(middle, 1, 3, 3), weight(outputs, middle, 1, 1), None,
                         (middle, outputs), padding=(1, 1, 1, 1), limits=RELU6 * 4, **options)  # fmt: skip

    head = ops.Chain(None, weight(20, 1, 3, 3), weight(40, 20, 1, 1), weight(3, 40, 1, 1), (20, 40, 3), 2, (0, 0, 1, 1))
    chains = [block(16, 48, 16, other=0), block(16, 50, 20, input=2, stride=2), block(20, 60, 20, input=3, other=3),
              block(20, 33, 16, input=4), head._replace(input=1)]  # fmt: skip
    return [torch.randn(2, 16, 40, 44, generator=g), torch.randn(1, 20, 70, 66, generator=g)], chains


def test_chains_read_what_chains_compute() -> None:
    inputs, chains = several()
    before, results = torch.get_num_threads(), []
    maps = list(inputs)
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            results.append(conv_chains(inputs, chains))
    finally:
        torch.set_num_threads(before)
    for chain in chains:  # one by one
        needed = [maps[chain.input], maps[max(chain.other, 0)]]
        alone = chain._replace(input=0, other=-1 if chain.other < 0 else 1)
        maps += conv_chains(needed, [alone])
    for got in results:
        assert len(got) == len(chains)
        assert all(map(torch.equal, got, maps[2:]))
    assert conv_chains(inputs, []) == []


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_the_fake_kernel_matches(monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format) -> None:
    called: list[Any] = []
    monkeypatch.setattr(ops, "_op", lambda *arguments: called.append(arguments) or ops_op(*arguments))
    inputs, chains = several()
    conv_chains([x.contiguous(memory_format=layout) for x in inputs], chains)
    windows = [chain for chain in SMALL if chain.window_stride]
    for chain in (SMALL[2], SMALL[4], SMALL[7], *windows, Chain(height=2, width=5, padding=(0, 0, 0, 0))):
        made = sample(chain)
        run(made, chain, made["x"].contiguous(memory_format=layout))
    for arguments in called:
        torch.library.opcheck(ops_op, arguments, test_utils=("test_schema", "test_faketensor"))
    assert len(called) >= 5


def test_weights_without_a_bias() -> None:
    weight = torch.randn(20, 3, 1, 1)
    packed = chain_weight(weight)
    assert packed.shape == (2, 4, 16)
    assert torch.equal(packed, chain_weight(weight, torch.zeros(20)))
    assert torch.equal(packed[1, 1:, :4].T, weight[16:, :, 0, 0])
    assert not packed[1, :, 4:].any()
    assert not packed[:, 0].any()
    window = torch.randn(16, 2, 3, 3)
    assert torch.equal(chain_weight(window)[0, 1 + 5], window[:, 1, 0, 2])  # rows of the kernel with all inputs each


GOOD = ops.Chain(torch.zeros(2, 5, 16), torch.zeros(2, 10, 16), torch.zeros(2, 21, 16), None, (20, 24), 1, (1, 1, 1, 1))


@pytest.mark.parametrize(
    ("name", "changes"),
    [("inputs", {"map": torch.zeros(4, 6, 6)}), ("input", {"map": torch.zeros(1, 4, 6, 6).double()}),
     ("input", {"map": torch.zeros(1, 0, 6, 6)}), ("input", {"input": 2}), ("input", {"input": -1}),
     ("other", {"other": 2}), ("other", {"other": -2}), ("expand", {"expand": torch.zeros(2, 6, 16)}),
     ("expand", {"expand": torch.zeros(1, 5, 16)}), ("expand", {"expand": torch.zeros(2, 16, 5).transpose(1, 2)}),
     ("depthwise", {"depthwise": torch.zeros(2, 9, 16)}), ("depthwise", {"depthwise": torch.zeros(1, 10, 16)}),
     ("project", {"project": torch.zeros(2, 21, 8)}), ("project", {"project": torch.zeros(1, 21, 16)}),
     ("project", {"project": torch.zeros(2, 1, 16)}), ("project", {"project": torch.zeros(2, 16)}),
     ("channels", {"expand": None, "depthwise": None, "padding": (0,) * 4}),
     ("last", {"last": torch.zeros(2, 16)}), ("last", {"last": torch.zeros(1, 25, 16)}),
     ("last", {"last": torch.zeros(2, 25, 16).half()}), ("last", {"last": torch.zeros(2, 34, 16)}),
     ("channels", {"channels": (20, 0)}),
     ("channels", {"channels": (20, 24, 0)}), ("other", {"other": 1, "added": torch.zeros(1, 24, 6, 5)}),
     ("other", {"other": 1, "added": torch.zeros(1, 24, 6, 6).half()}), ("other", {"other": 0}),
     ("stride", {"stride": 3}), ("stride", {"stride": 0}), ("up", {"up": 2}), ("up", {"other": 1, "up": 0}),
     ("up", {"other": 1, "up": 3}), ("other", {"other": 1, "up": 2}), ("window_stride", {"window_stride": 3}),
     ("window_stride", {"window_stride": -1}), ("window_stride", {"window_stride": 1, "expand": None}),
     ("window_padding", {"window_padding": (1, 0, 0, 0)}), ("expand", {"window_stride": 1}),
     ("window_padding", {"window_stride": 1, "window_padding": (3, 0, 0, 0)}),
     ("stride", {"stride": 2, "depthwise": None, "padding": (0,) * 4}), ("chains", {"padding": (1, 1)}),
     ("padding", {"padding": (1, 1, 1, 3)}), ("padding", {"padding": (-1, 1, 1, 1)}),
     ("padding", {"depthwise": None}), ("limits", {"limits": (0.0, 6.0)})],
)  # fmt: skip
def test_bad_arguments(name: str, changes: dict[str, Any]) -> None:
    def call(map: Tensor | None = None, added: Tensor | None = None, **changes: Any) -> list[Tensor]:
        x = torch.zeros(1, 4, 6, 6) if map is None else map
        return conv_chains([x, torch.zeros(1, 24, 6, 6) if added is None else added], [GOOD._replace(**changes)])

    assert call()[0].shape == (1, 24, 6, 6)
    with pytest.raises(InputError, match=f"^{name} must be"):
        call(**changes)


def test_the_number_of_weights() -> None:
    x, weight = torch.zeros(1, 4, 6, 6), chain_weight(torch.zeros(4, 4, 1, 1))
    numbers = [0, -1, 1, 0, 4, 4, 4, 1, *[0] * 9]
    assert ops_op([x], [weight], numbers, NO_LIMITS)[0].shape == (1, 4, 6, 6)
    for weights in ([], [weight] * 2):
        with pytest.raises((RuntimeError, ValueError), match="weights must be one for each stage"):
            ops_op([x], weights, numbers, NO_LIMITS)
