"""Convolutions in a row are those convolutions one after the other."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyrcnn import InputError
from pyrcnn.ops.conv_chain import NO_LIMITS, chain_weight, conv_chain
from tests.ops.checks import strided
from tests.reference import conv_chain as reference

RELU6 = (0.0, 6.0)


class Chain(NamedTuple):
    """Channels and sizes of one call; a stage without channels is left out."""

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


# widths beside a panel's 16 and its half, fewer pixels than are multiplied at a time, sizes below the kernel
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
]
# several tiles on either side, and channels in several chunks
LARGE = [
    Chain(inputs=24, height=35, width=150, expand=40, project=24),
    Chain(inputs=20, height=41, width=135, expand=24, project=34, stride=2, padding=(0, 0, 1, 1)),
    Chain(images=2, inputs=160, height=16, width=16, expand=960, project=160),
    Chain(inputs=64, height=20, width=33, expand=384, project=90),
    Chain(inputs=24, height=30, width=70, project=256, last=90),
    Chain(images=3, inputs=320, height=9, width=20, expand=1280, depthwise=False, project=64, padding=(0, 0, 0, 0)),
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
        "expand": layer(chain.expand, chain.inputs, 1, RELU6) if chain.expand else None,
        "filters": layer(middle, 1, 3, (-1.0, 5.0)) if chain.depthwise else None,
        "project": layer(chain.project, middle, 1, relu if chain.last else (-3.0, 4.0)),
        "last": layer(chain.last, chain.project, 1, (-2.0, math.inf)) if chain.last else None,
    }
    made["other"] = torch.randn(run(made, chain).shape, generator=g)
    return made


def run(made: dict[str, Any], chain: Chain, x: Tensor | None = None, other: Tensor | None = None) -> Tensor:
    stages = [made[name] for name in ("expand", "filters", "project", "last")]
    weights = [stage and chain_weight(*stage[:2]) for stage in stages]
    limits = [x for stage in stages for x in (stage[2:] if stage else NO_LIMITS[:2])]
    x = made["x"] if x is None else x
    return conv_chain(x, *weights, other, chain.last or chain.project, chain.stride, chain.padding, limits)


def torchs(made: dict[str, Any], chain: Chain, other: Tensor | None) -> Tensor:
    """By torch, in float64."""
    x = made["x"].double()
    top, left, bottom, right = chain.padding
    for name in ("expand", "filters", "project", "last"):
        if made[name] is not None:
            weight, bias, low, high = made[name]
            if name == "filters":
                x = F.conv2d(F.pad(x, (left, right, top, bottom)), weight.double(), bias.double(), chain.stride,
                             groups=len(weight))  # fmt: skip
            else:
                x = F.conv2d(x, weight.double(), bias.double())
            if other is not None and name == ("last" if chain.last else "project"):
                x = x + other
            x = x.clamp(low, high)
    return x


@pytest.mark.parametrize("chain", SMALL, ids=str)
def test_it_is_what_loops_compute(chain: Chain) -> None:
    made = sample(chain)
    layers = [made[name] for name in ("expand", "filters", "project", "last")]
    x, other = made["x"], made["other"]
    for added in (None, other):
        wanted = reference.conv_chain(x, *layers, added, chain.stride, chain.padding)
        got = run(made, chain, other=added)
        assert got.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=2e-5)
        last = torch.channels_last
        for layout in (lambda t: t.contiguous(memory_format=last), strided):
            again = run(made, chain, layout(x), None if added is None else layout(added))
            assert torch.equal(again, got)


@pytest.mark.parametrize("chain", LARGE, ids=str)
def test_it_is_torchs_whatever_the_threads(chain: Chain) -> None:
    made = sample(chain)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            results.append(run(made, chain, other=made["other"]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    torch.testing.assert_close(results[0].double(), torchs(made, chain, made["other"]), rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("shape", [(0, 16, 8, 8), (2, 16, 0, 8), (1, 16, 8, 0)])
def test_nothing(shape: tuple[int, ...]) -> None:
    made = sample(Chain())
    assert run(made, Chain(), torch.zeros(shape)).shape == shape
    assert run(made, Chain(padding=(0, 0, 0, 0)), torch.zeros(1, 16, 2, 5)).shape == (1, 16, 0, 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("chain", [Chain(expand=32), Chain(project=40, last=4)], ids=["block", "head"])
def test_not_a_number_stays_where_it_is(value: float, chain: Chain) -> None:
    made = sample(chain)
    clean = run(made, chain)
    made["x"][0, 3, 0, 0] = value
    got, wanted = run(made, chain), torchs(made, chain, None)
    assert torch.equal(got.isnan(), wanted.isnan())
    assert not math.isnan(value) or got[..., :2, :2].isnan().all()
    assert torch.equal(got[..., 2:, :], clean[..., 2:, :])
    assert torch.equal(got[..., 2:], clean[..., 2:])


def test_it_traces() -> None:
    for chain in (SMALL[2], SMALL[4], SMALL[7], Chain(height=2, width=5, padding=(0, 0, 0, 0))):
        made = sample(chain)
        weights = [made[name] and chain_weight(*made[name][:2]) for name in ("expand", "filters", "project", "last")]
        outputs = chain.last or chain.project
        for x in (made["x"], made["x"].contiguous(memory_format=torch.channels_last)):
            arguments = (x, *weights, made["other"], outputs, chain.stride, chain.padding, NO_LIMITS)
            op = torch.ops.pyrcnn._conv_chain.default
            torch.library.opcheck(op, arguments, test_utils=("test_schema", "test_faketensor"))


def test_weights_without_a_bias() -> None:
    weight = torch.randn(20, 3, 1, 1)
    packed = chain_weight(weight)
    assert packed.shape == (2, 4, 16)
    assert torch.equal(packed, chain_weight(weight, torch.zeros(20)))
    assert torch.equal(packed[1, 1:, :4].T, weight[16:, :, 0, 0])
    assert not packed[1, :, 4:].any()
    assert not packed[:, 0].any()


GOOD: dict[str, Any] = {
    "input": torch.zeros(1, 4, 6, 6), "expand": torch.zeros(2, 5, 16), "depthwise": torch.zeros(2, 10, 16),
    "project": torch.zeros(2, 21, 16), "last": None, "other": None, "outputs": 24,
    "stride": 1, "padding": (1, 1, 1, 1), "limits": NO_LIMITS,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes"),
    [("input", {"input": torch.zeros(4, 6, 6)}), ("input", {"input": torch.zeros(1, 4, 6, 6).double()}),
     ("input", {"input": torch.zeros(1, 0, 6, 6)}), ("expand", {"expand": torch.zeros(2, 6, 16)}),
     ("expand", {"expand": torch.zeros(1, 5, 16)}), ("expand", {"expand": torch.zeros(2, 16, 5).transpose(1, 2)}),
     ("depthwise", {"depthwise": torch.zeros(2, 9, 16)}), ("depthwise", {"depthwise": torch.zeros(1, 10, 16)}),
     ("project", {"project": torch.zeros(2, 21, 8)}), ("project", {"project": torch.zeros(1, 21, 16)}),
     ("project", {"project": torch.zeros(2, 1, 16)}), ("project", {"project": torch.zeros(2, 16)}),
     ("project", {"expand": None, "depthwise": None, "padding": (0,) * 4}),
     ("last", {"last": torch.zeros(2, 16)}), ("last", {"last": torch.zeros(1, 25, 16)}),
     ("last", {"last": torch.zeros(2, 25, 16).half()}), ("project", {"last": torch.zeros(2, 34, 16)}),
     ("outputs", {"outputs": 0}), ("other", {"other": torch.zeros(1, 24, 6, 5)}),
     ("other", {"other": torch.zeros(1, 24, 6, 6).half()}), ("stride", {"stride": 3}),
     ("stride", {"stride": 2, "depthwise": None, "padding": (0,) * 4}), ("padding", {"padding": (1, 1)}),
     ("padding", {"padding": (1, 1, 1, 3)}), ("padding", {"padding": (-1, 1, 1, 1)}),
     ("padding", {"depthwise": None}), ("limits", {"limits": (0.0, 6.0)})],
)  # fmt: skip
def test_bad_arguments(name: str, changes: dict[str, Any]) -> None:
    assert conv_chain(**GOOD).shape == (1, 24, 6, 6)
    with pytest.raises(InputError, match=f"^{name} must be"):
        conv_chain(**GOOD | changes)
