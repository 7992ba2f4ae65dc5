"""Convolutions in a row in bfloat16: what they pass on is rounded, and nothing else is."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyrcnn import InputError
from pyrcnn.ops import conv_chain as ops
from pyrcnn.ops.conv_chain import chain_weight, conv_chains
from tests.ops.checks import strided, whatever_the_threads
from tests.ops.test_conv_chain import LARGE, NO_PADDING, SMALL, Chain, run, sample
from tests.reference import conv_chain as reference

STAGES = ("expand", "filters", "project", "last")
SPACING = 2.0**-7  # of neighbouring numbers in bfloat16, at most, relative to them
# channels that fill one panel, half of it and neither, and pixels that fill groups of 16
MORE = [
    Chain(inputs=32, expand=64, project=32, height=5, width=16),
    Chain(inputs=100, expand=1, project=100, height=4, width=17),
    Chain(inputs=1, expand=33, project=1, height=4, width=31),
    Chain(inputs=64, depthwise=False, project=65, last=1, height=4, width=8, padding=NO_PADDING),
    Chain(inputs=64, depthwise=False, project=31, images=2, height=3, width=7, padding=NO_PADDING),
    Chain(inputs=32, depthwise=False, expand=48, project=16, images=2, height=3, width=8, padding=NO_PADDING),
    Chain(inputs=1, expand=20, project=9, height=9, width=8, window_stride=2, window_padding=(0, 0, 1, 1)),
    Chain(inputs=7, expand=20, project=9, height=9, width=40, window_stride=1),  # 63 products
    Chain(inputs=32, expand=8, project=9, height=5, width=20, window_stride=1),  # 288, which are whole tiles
]


def in_bfloat16(chain: Chain) -> dict[str, Any]:
    """A sample's maps and weights, rounded; biases are float32."""
    made = sample(chain)
    for name in STAGES:
        if made[name] is not None:
            weight, *rest = made[name]
            made[name] = (weight.bfloat16(), *rest)
    return made | {"x": made["x"].bfloat16(), "other": made["other"].bfloat16()}


def wanted(made: dict[str, Any], chain: Chain, other: Tensor | None) -> tuple[Tensor, Tensor]:
    """By torch in float64, each stage rounded; and by how much sums in another order may change that.

    The next number is as good where one is rounded the other way, and what follows sees the difference.
    """
    x, error = made["x"].double(), torch.zeros_like(made["x"], dtype=torch.float64)
    for name in STAGES:
        if made[name] is None:
            continue
        weight, bias, low, high = (made[name][0].double(), made[name][1].double(), *made[name][2:])
        window = name == "expand" and chain.window_stride
        top, left, bottom, right = chain.window_padding if window else chain.padding
        padding = (left, right, top, bottom) if window or name == "filters" else (0, 0, 0, 0)
        stride = chain.window_stride if window else chain.stride if name == "filters" else 1
        groups = len(weight) if name == "filters" else 1

        def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: Any = padding,
                     stride: int = stride, groups: int = groups) -> Tensor:  # fmt: skip
            return F.conv2d(F.pad(x, padding), weight, bias, stride, groups=groups)

        added = torch.zeros((), dtype=torch.float64)
        if other is not None and name == ("last" if chain.last else "project"):
            added = (reference.doubled(other) if chain.up == 2 else other).double()
        sizes = convolve(x.abs(), weight.abs(), bias.abs()) + added.abs()
        error = convolve(error, weight.abs()) + 1e-6 * sizes
        x = convolve(x, weight, bias) + added
        x = x.clamp(low, high).bfloat16().double()
        error = error + SPACING * (x.abs() + error)
    return x, error


def check(got: Tensor, exact: Tensor, error: Tensor) -> None:
    assert got.dtype == torch.bfloat16
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert ((got.double() - exact).abs() <= error).all()
    assert (got.double() == exact).double().mean() >= 0.99  # few numbers are so near to the middle between two


@pytest.mark.parametrize("chain", SMALL + MORE, ids=str)
def test_it_is_the_convolutions(chain: Chain) -> None:
    made = in_bfloat16(chain)
    for added in (None, made["other"]):
        got = run(made, chain, other=added)
        check(got, *wanted(made, chain, added))
        last = torch.channels_last
        for layout in (lambda t: t.contiguous(memory_format=last), strided):
            again = run(made, chain, layout(made["x"]), None if added is None else layout(added))
            assert torch.equal(again, got)


@pytest.mark.parametrize("chain", [chain for chain in LARGE if chain.expand < 500], ids=str)
def test_threads_change_nothing(chain: Chain) -> None:
    made = in_bfloat16(chain)
    result = whatever_the_threads(lambda: run(made, chain, other=made["other"]))
    check(result, *wanted(made, chain, made["other"]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "chain",
    [Chain(expand=40), Chain(project=40, last=4), Chain(inputs=20, width=20, project=48, last=70),
     Chain(inputs=20, expand=5, depthwise=False, project=33, padding=NO_PADDING), Chain(expand=33, window_stride=1)],
    ids=["block", "head", "wide head", "pair", "first"],
)  # fmt: skip
def test_not_a_number_stays_where_it_is(value: float, chain: Chain) -> None:
    """What fills panels up, and the pixels that fill groups up, add nothing, whatever they are multiplied with."""
    made = in_bfloat16(chain)
    clean = run(made, chain)
    made["x"][0, 3, 0, 0] = value
    got, (exact, _) = run(made, chain), wanted(made, chain, None)
    assert torch.equal(got.isnan(), exact.isnan())
    assert not math.isnan(value) or got[..., 0, 0].isnan().all()
    assert torch.equal(got[..., 2:, :], clean[..., 2:, :])
    assert torch.equal(got[..., 2:], clean[..., 2:])


def test_chains_read_what_chains_compute() -> None:
    g = torch.Generator().manual_seed(1)

    def weight(*shape: int) -> Tensor:
        made = torch.randn(*shape, generator=g) / 4
        return chain_weight(made.bfloat16(), torch.randn(shape[0], generator=g), depthwise=shape[2] == 3)

    def block(inputs: int, middle: int, outputs: int, **options: Any) -> ops.Chain:
        return ops.Chain(weight(middle, inputs, 1, 1), weight(middle, 1, 3, 3), weight(outputs, middle, 1, 1), None,
                         (middle, outputs), padding=(1, 1, 1, 1), limits=(0.0, 6.0) * 4, **options)  # fmt: skip

    x = torch.randn(2, 16, 40, 44, generator=g).bfloat16()
    chains = [block(16, 48, 16, other=0), block(16, 50, 20, input=1, stride=2), block(20, 60, 20, input=2, other=2)]
    results = conv_chains([x], chains)
    maps = [x]
    for chain in chains:
        maps += conv_chains([maps[chain.input], maps[max(chain.other, 0)]],
                            [chain._replace(input=0, other=-1 if chain.other < 0 else 1)])  # fmt: skip
    assert all(map(torch.equal, results, maps[1:]))


def test_nothing() -> None:
    made = in_bfloat16(Chain())
    for shape in ((0, 16, 8, 8), (2, 16, 0, 8), (1, 16, 8, 0)):
        got = run(made, Chain(), torch.zeros(shape, dtype=torch.bfloat16))
        assert (got.shape, got.dtype) == (shape, torch.bfloat16)


def test_it_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    op = torch.ops.pyrcnn._conv_chains.default
    monkeypatch.setattr(ops, "_op", lambda *arguments: called.append(arguments) or op(*arguments))
    for chain in (SMALL[2], SMALL[4], MORE[3], MORE[6]):
        run(in_bfloat16(chain), chain)
    called = [arguments for arguments in called if arguments[0][0].dtype == torch.bfloat16]
    for arguments in called:
        torch.library.opcheck(op, arguments, test_utils=("test_schema", "test_faketensor"))
    assert len(called) == 4


def test_weights() -> None:
    weight, bias = torch.randn(40, 5, 1, 1).bfloat16(), torch.randn(40)
    packed = chain_weight(weight, bias)
    assert packed.shape == (2, 2 + 32, 32)
    assert torch.equal(packed[:, :2].flatten().view(torch.float32)[:40], bias)
    for output, channel in itertools.product((0, 31, 32, 39), range(5)):
        pairs = packed[output // 32, 2:].reshape(16, 32, 2)
        assert pairs[channel // 2, output % 32, channel % 2] == weight[output, channel, 0, 0]
    assert packed[:, 2:].count_nonzero() == weight.count_nonzero()
    assert not chain_weight(weight)[:, :2].any()
    window = torch.randn(32, 2, 3, 3).bfloat16()
    pairs = chain_weight(window)[0, 2:].reshape(16, 32, 2)
    assert torch.equal(pairs[5 // 2, :, 5 % 2], window[:, 1, 0, 2])  # rows of the kernel with all inputs each
    filters = torch.randn(33, 1, 3, 3).bfloat16()
    packed = chain_weight(filters, depthwise=True)
    assert packed.shape == (2, 2 + 9, 32)
    assert torch.equal(packed[0, 2 + 4], filters[:32, 0, 1, 1])


@pytest.mark.parametrize(
    ("name", "changes"),
    [("input", {"maps": [1], "input": 1}), ("other", {"maps": [1]}), ("expand", {"expand": torch.zeros(1, 5, 16)}),
     ("expand", {"expand": torch.zeros(1, 34, 32)}), ("expand", {"expand": torch.zeros(1, 6, 32).bfloat16()}),
     ("depthwise", {"depthwise": torch.zeros(1, 34, 32).bfloat16()}), ("expand", {"channels": (33, 24)}),
     ("project", {"project": torch.zeros(1, 22, 32).bfloat16()}),
     ("channels", {"channels": (0, 24)}), ("channels", {"channels": (20, 24, 8)}),
     ("last", {"last": torch.zeros(1, 26, 32).bfloat16(), "channels": (20, 24, 8)})],
)  # fmt: skip
def test_bad_arguments(name: str, changes: dict[str, Any]) -> None:
    def call(maps: tuple[int, ...] = (), **changes: Any) -> list[Tensor]:
        inputs = [torch.zeros(1, 4, 6, 6), torch.zeros(1, 24, 6, 6)]
        inputs = [x if i in maps else x.bfloat16() for i, x in enumerate(inputs)]
        weights = (
            torch.zeros(1, 34, 32).bfloat16(),
            torch.zeros(1, 11, 32).bfloat16(),
            torch.zeros(1, 34, 32).bfloat16(),
        )
        chain = ops.Chain(*weights, None, (20, 24), 1, (1, 1, 1, 1), other=1)
        return conv_chains(inputs, [chain._replace(**changes)])

    assert call()[0].shape == (1, 24, 6, 6)
    with pytest.raises(InputError, match=f"^{name} must be"):
        call(**changes)
