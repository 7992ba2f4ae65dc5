"""Chains of convolutions are found where they are possible, only there, and compute the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrcnn import deploy
from pyrcnn.deploy.engines.native.chains import ConvChain, ConvChains, reads_any_layout
from pyrcnn.deploy.engines.native.chains.replace import is_chain_faster
from pyrcnn.deploy.engines.native.pack import Allowed, PackedConv2d, pack_
from pyrcnn.deploy.fx_graph import trace
from pyrcnn.models.layers import pad_same, upsample_nearest
from tests.deploy.small import as_on, small

MOBILE = "centernet_mobilenet_v2_fpn_512"


@pytest.fixture(autouse=True)
def _vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    as_on(monkeypatch, kernels="avx2")


def depthwise(channels: int, stride: int = 1, padding: int = 1, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, padding, groups=channels, **options)


class Found(nn.Module):
    """A block of each kind: with a sum, with TensorFlow's padding, a head, a pair, and an expansion between two."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.filter, self.project = nn.Conv2d(4, 24, 1), depthwise(24), nn.Conv2d(24, 4, 1)
        self.widen, self.shrink, self.narrow = nn.Conv2d(4, 18, 1), depthwise(18, 2, 0), nn.Conv2d(18, 6, 1, bias=False)
        self.first, self.second = depthwise(6), nn.Conv2d(6, 5, 1)
        self.more, self.middle, self.less = nn.Conv2d(5, 30, 1), depthwise(30), nn.Conv2d(30, 5, 1)
        self.slim, self.hidden, self.out = depthwise(5), nn.Conv2d(5, 32, 1), nn.Conv2d(32, 3, 1)
        self.wide, self.back = nn.Conv2d(5, 40, 1), nn.Conv2d(40, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu6(self.project(F.relu6(self.filter(F.relu6(self.expand(x))))) + x)
        x = self.narrow(self.shrink(pad_same(F.relu(self.widen(x)), 3, 2)))
        x = self.second(F.relu(self.first(x)))
        x = self.less(self.middle(self.more(x)))
        return self.out(torch.relu(self.hidden(self.slim(x)))), F.relu(x + self.back(self.wide(x)))


class Begin(nn.Module):
    """The first layers of a network and one step of a pyramid."""

    def __init__(self, padding: int):
        super().__init__()
        self.padding = padding
        self.first, self.filter, self.project = nn.Conv2d(3, 10, 3, 2, padding), depthwise(10), nn.Conv2d(10, 6, 1)
        self.coarser, self.narrow = depthwise(6, 2), nn.Conv2d(6, 8, 1)
        self.lateral = nn.Conv2d(6, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.padding else pad_same(x, 3, 2)
        x = self.project(F.relu6(self.filter(F.relu6(self.first(x)))))
        return upsample_nearest(self.narrow(self.coarser(x))) + self.lateral(x)


class NoChain(nn.Module):
    """Convolutions that look like chains and are none."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.used_twice, self.b = nn.Conv2d(8, 8, 1), depthwise(8), nn.Conv2d(8, 8, 1)
        self.dilated, self.c = depthwise(8, padding=2, dilation=2), nn.Conv2d(8, 8, 1, stride=2)
        self.reflected, self.d = depthwise(8, padding_mode="reflect"), nn.Conv2d(8, 8, 1, groups=2)
        self.plain, self.activated = depthwise(8), nn.Conv2d(8, 8, 1)
        self.third = depthwise(8, stride=3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.used_twice(self.a(x))
        x = self.b(y) + y
        x = self.c(self.dilated(x))
        x = self.d(self.reflected(x))
        return self.third(self.activated(torch.sigmoid(self.plain(x))))


def packed(network: nn.Module, size: tuple[int, ...]) -> Any:
    graph = trace(network.requires_grad_(False)).to(memory_format=torch.channels_last)
    pack_(graph, size, torch.float32, Allowed(chain=True))
    return graph


def chains(module: nn.Module) -> int:
    return sum(isinstance(m, ConvChain) for m in module.modules())


@pytest.mark.parametrize("size", [(1, 4, 32, 32), (2, 4, 17, 20), (1, 4, 31, 18), (3, 4, 33, 33)], ids=str)
def test_chains_compute_what_their_layers_do(size: tuple[int, ...]) -> None:
    network = Found()
    x = torch.randn(size)
    with torch.no_grad():
        wanted = network(x)
        graph = packed(network, size)
        assert chains(graph) == 6
        assert not [m for m in graph.modules() if isinstance(m, PackedConv2d | nn.Conv2d)]
        for got, value in zip(graph(x.contiguous(memory_format=torch.channels_last)), wanted, strict=True):
            torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-5)
        (together,) = [m for m in graph.modules() if isinstance(m, ConvChains)]
        assert all(map(torch.equal, together(x), together.run_separately(x)))
        other = torch.randn(1, 4, 24, 11)  # and any other size
        for got, value in zip(graph(other), network(other), strict=True):
            torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", [0, 1])
def test_first_layers_and_a_pyramid(padding: int) -> None:
    network = Begin(padding)
    with torch.no_grad():
        graph = packed(network, (1, 3, 64, 80))
        assert chains(graph) == 3
        assert reads_any_layout(graph)
        assert not [m for m in graph.modules() if isinstance(m, PackedConv2d | nn.Conv2d)]
        for size in ((1, 3, 64, 80), (2, 3, 28, 140)):
            x = torch.randn(size)
            wanted = network(x)
            for layout in (torch.contiguous_format, torch.channels_last):
                got = graph(x.contiguous(memory_format=layout))
                torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    assert not reads_any_layout(packed(Found(), (1, 4, 32, 32)))


def test_other_convolutions_stay() -> None:
    network, x = NoChain(), torch.randn(1, 8, 40, 40)
    with torch.no_grad():
        wanted = network(x)
        graph = packed(network, (1, 8, 40, 40))
        assert chains(graph) == 0
        torch.testing.assert_close(graph(x), wanted, rtol=1e-4, atol=1e-5)


def test_where_chains_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_chain_faster((1, 64, 8, 8), torch.float32)
    assert not is_chain_faster((1, 64, 7, 9), torch.float32)
    model = small(MOBILE)

    def used(**options: Any) -> int:
        return chains(deploy.optimize(model, size=(512, 512), engine="native", **options))

    assert used() == 17 + 1 + 3 + 3 + 3  # MobileNet's blocks, its top and the pyramid's, laterals, merges, heads
    assert not used(chain=False)
    assert not used(channels_last=False)
    assert not used(fuse=False)
    for bfloat16 in (False, True):
        as_on(monkeypatch, kernels="avx512", bfloat16=bfloat16)
        assert used() == 27
        assert not used(dtype=torch.bfloat16)
    as_on(monkeypatch, kernels="default")
    assert not used()  # chains were measured with vector instructions only


@pytest.mark.parametrize("name", [MOBILE, MOBILE + "_kpts"])
def test_whole_networks_compute_the_same(name: str) -> None:
    model = small(name)
    fast = deploy.optimize(model, size=(512, 512), engine="native")
    assert chains(fast) >= 27
    assert sum(isinstance(m, ConvChains) for m in fast.modules()) == 1  # from the pixels to the heads
    assert fast.layout == torch.contiguous_format  # the first convolution reads it as it is
    pixels = torch.randn(2, 3, 160, 96)
    with torch.no_grad():
        for name, value in model.heads(pixels).items():
            torch.testing.assert_close(fast.heads(pixels)[name], value, rtol=1e-4, atol=1e-4)
