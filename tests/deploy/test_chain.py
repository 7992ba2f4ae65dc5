"""Convolutions that follow one another are found, those alone that may be, and compute the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrcnn import deploy
from pyrcnn.deploy.chain import ConvChain, ConvChains, reads_any_layout, suits
from pyrcnn.deploy.fold import traced
from pyrcnn.deploy.pack import Allowed, PackedConv2d, pack
from pyrcnn.models.layers import pad_same, upsample_nearest
from tests.deploy.small import small

MOBILE = "centernet_mobilenet_v2_fpn_512"


@pytest.fixture(autouse=True)
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with AVX2, whatever this run asks for."""
    monkeypatch.setattr("pyrcnn._native.build_info", lambda: {"cpu_capability": "avx2", "cpu_tiles": ""})


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with AMX and without AVX2, which then is not what chains are used for; there they are faster."""
    monkeypatch.setattr("pyrcnn._native.build_info", lambda: {"cpu_capability": "default", "cpu_tiles": "amx"})
    monkeypatch.setattr("pyrcnn.deploy.network.available", lambda dtype: True)
    monkeypatch.setattr("pyrcnn.deploy.network.fastest", lambda contenders, *_: contenders[0])


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


class Picture(nn.Module):
    """A network's beginning and a pyramid's step."""

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


class Left(nn.Module):
    """What is nearly a chain."""

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


def packed(network: nn.Module, size: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Any:
    graph = traced(network.requires_grad_(False)).to(memory_format=torch.channels_last)
    return pack(graph, size, dtype, Allowed(chain=True))


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
        assert all(map(torch.equal, together(x), together.apart(x)))
        other = torch.randn(1, 4, 24, 11)  # and any other size
        for got, value in zip(graph(other), network(other), strict=True):
            torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-5)


def no_worse(got: Tensor, plain: Tensor, exact: Tensor) -> None:
    """As near to what float32 computes as torch's bfloat16 is."""
    assert (got - exact).abs().mean() <= 1.1 * (plain - exact).abs().mean()


@pytest.mark.parametrize("size", [(1, 4, 32, 32), (2, 4, 17, 20)], ids=str)
def test_chains_in_bfloat16(size: tuple[int, ...], tiles: None) -> None:
    network = Found().bfloat16()
    x = torch.randn(size).bfloat16()
    with torch.no_grad():
        plain, exact = network(x), copy.deepcopy(network).float()(x.float())
        graph = packed(network, size, torch.bfloat16)
        assert chains(graph) == 6
        assert not [m for m in graph.modules() if isinstance(m, PackedConv2d | nn.Conv2d)]
        for got, other, value in zip(graph(x), plain, exact, strict=True):
            assert got.dtype == torch.bfloat16
            no_worse(got, other, value)


@pytest.mark.parametrize("padding", [0, 1])
def test_a_picture_and_a_pyramid(padding: int) -> None:
    network = Picture(padding)
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


def test_what_others_need_is_left_alone() -> None:
    network, x = Left(), torch.randn(1, 8, 40, 40)
    with torch.no_grad():
        wanted = network(x)
        graph = packed(network, (1, 8, 40, 40))
        assert chains(graph) == 0
        torch.testing.assert_close(graph(x), wanted, rtol=1e-4, atol=1e-5)


def test_what_it_is_used_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert suits((1, 64, 8, 8), torch.float32)
    assert not suits((1, 64, 7, 9), torch.float32)
    model = small(MOBILE)

    def used(**options: Any) -> int:
        return chains(deploy.optimize(model, size=(512, 512), **options))

    assert used() == 17 + 1 + 3 + 3 + 3  # MobileNet's blocks, its top and the pyramid's, laterals, merges, heads
    assert not used(chain=False)
    assert not used(channels_last=False)
    assert not used(fuse=False)
    assert not used(dtype=torch.bfloat16)
    monkeypatch.setattr("pyrcnn._native.build_info", lambda: {"cpu_capability": "default"})
    assert not used()  # measured with vectors alone


def test_what_tiles_are_used_for(tiles: None) -> None:
    assert suits((1, 64, 8, 8), torch.bfloat16)
    assert not suits((1, 64, 7, 9), torch.bfloat16)
    model = small(MOBILE)
    assert chains(deploy.optimize(model, size=(512, 512), dtype=torch.bfloat16)) == 27
    for dtype in (torch.float32, torch.float16):
        assert not chains(deploy.optimize(model, size=(512, 512), dtype=dtype))


def test_only_where_a_trial_finds_them_faster(tiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def last(contenders: Any, *sizes: Any) -> nn.Module:
        seen.append(([chains(c) > 0 for c in contenders], *sizes))
        return contenders[-1]

    monkeypatch.setattr("pyrcnn.deploy.network.fastest", last)
    assert not chains(deploy.optimize(small(MOBILE), size=(512, 512), dtype=torch.bfloat16))
    assert seen == [([True, False], (1, 3, 512, 512))]


@pytest.mark.parametrize("name", [MOBILE, MOBILE + "_kpts"])
def test_whole_networks_compute_the_same(name: str) -> None:
    model = small(name)
    fast = deploy.optimize(model, size=(512, 512))
    assert chains(fast) >= 27
    assert sum(isinstance(m, ConvChains) for m in fast.modules()) == 1  # from the picture to the heads
    assert fast.layout == torch.contiguous_format  # the first convolution reads it as it is
    pixels = torch.randn(2, 3, 160, 96)
    with torch.no_grad():
        for name, value in model.heads(pixels).items():
            torch.testing.assert_close(fast.heads(pixels)[name], value, rtol=1e-4, atol=1e-4)


def test_a_whole_network_in_bfloat16(tiles: None) -> None:
    model = small(MOBILE)
    fast = deploy.optimize(model, size=(512, 512), dtype=torch.bfloat16)
    assert sum(isinstance(m, ConvChains) for m in fast.modules()) == 1
    assert not [m for m in fast.modules() if isinstance(m, nn.Conv2d)]
    assert fast.layout == torch.contiguous_format
    plain = deploy.optimize(model, dtype=torch.bfloat16, fuse=False)
    pixels = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        exact, others = model.heads(pixels), plain.heads(pixels.bfloat16())
        for name, got in fast.heads(pixels.bfloat16()).items():
            no_worse(got, others[name], exact[name])
