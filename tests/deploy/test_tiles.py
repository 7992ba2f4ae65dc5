"""Optimized networks in bfloat16 take the kernel for tiles where it is faster."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyrcnn import deploy
from pyrcnn.deploy.tile_conv import TileConv2d, fastest, suits
from tests.deploy.small import pictures, small


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with AMX, whose oneDNN has no kernels."""
    monkeypatch.setattr("pyrcnn._native.build_info", lambda: {"cpu_capability": "avx512", "cpu_tiles": "amx"})
    monkeypatch.setattr("pyrcnn.deploy.network.available", lambda dtype: True)
    monkeypatch.setattr("pyrcnn.deploy.tile_conv.TRIALS", 1)

    def none(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("pyrcnn.deploy.pack.PackedConv2d.__init__", none)
    monkeypatch.setattr("pyrcnn.deploy.pack.PackedLinear.__init__", none)


def test_which_convolutions_suit(tiles: None) -> None:
    def conv(inputs: int = 24, outputs: int = 40, **options: Any) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, **({"kernel_size": 3, "padding": 1} | options)).bfloat16()

    for one in (conv(), conv(stride=2), conv(padding=0), conv(padding=2), conv(kernel_size=1, padding=0, stride=2)):
        assert suits(one)
    for other in (conv(kernel_size=5, padding=2), conv(kernel_size=(3, 1), padding=(1, 0)), conv(stride=(1, 2)),
                  conv(stride=3), conv(padding=3), conv(kernel_size=1), conv(groups=2), conv(dilation=2),
                  conv(padding_mode="reflect"), conv().float()):  # fmt: skip
        assert not suits(other)


def test_only_machines_with_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyrcnn._native.build_info", lambda: {"cpu_capability": "avx512", "cpu_tiles": ""})
    assert not suits(nn.Conv2d(32, 32, 1).bfloat16())


class _Sleeper(nn.Module):
    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.seen = seconds, [(0,)]

    def forward(self, *maps: Tensor) -> None:
        self.seen = [tuple(x.shape) for x in maps]
        time.sleep(self.seconds)


def test_the_fastest_is_taken() -> None:
    slow, fast = _Sleeper(0.03), _Sleeper(0.0)
    sizes = [1, 8, 4, 6], [1, 16, 2, 3]
    assert fastest([slow, fast], *sizes) is fast
    assert fastest([fast, slow], *sizes) is fast
    assert slow.seen == fast.seen == [(1, 8, 4, 6), (1, 16, 2, 3)]
    assert fastest([slow], *sizes) is slow


def _used(model: Any, **options: Any) -> int:
    return sum(isinstance(m, TileConv2d) for m in deploy.optimize(model, torch.bfloat16, **options).modules())


@pytest.mark.parametrize("name", ["centernet_resnet50_v1_fpn_512", "faster_rcnn_resnet50_fpn"])
def test_results_stay_what_they_are(tiles: None, name: str) -> None:
    torch.manual_seed(0)
    model, images = small(name), pictures()
    assert _used(model) > 50
    assert _used(model, tiles=False) == _used(model, channels_last=False) == _used(model, fuse=False) == 0
    fast, plain = deploy.optimize(model, torch.bfloat16), deploy.optimize(model, torch.bfloat16, tiles=False)
    pixels, _, _ = fast.preprocess(images)
    with torch.no_grad():
        if hasattr(model, "heads"):
            pairs = [(fast.heads(pixels)[key], value) for key, value in plain.heads(pixels).items()]
        else:
            pairs = list(zip(fast.model.backbone(pixels), plain.model.backbone(pixels), strict=True))
    for got, wanted in pairs:
        assert (got.float() - wanted.float()).abs().max() <= 0.05 * wanted.float().abs().max()
