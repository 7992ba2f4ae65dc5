"""Winograd's algorithm computes a 3x3 convolution."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyrcnn import InputError, deploy
from pyrcnn.deploy.engines.native.ops.winograd import winograd_conv2d, winograd_weight
from pyrcnn.deploy.engines.native.winograd import WinogradConv2d, is_winograd_faster
from tests.deploy.small import as_on, small
from tests.ops.checks import whatever_the_threads


def sample(n: int, c: int, outputs: int, h: int, w: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)

    def make(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    return {"x": make(n, c, h, w), "weight": make(outputs, c, 3, 3), "bias": make(outputs),
            "other": make(n, outputs, h, w)}  # fmt: skip


# blocks cut on either side, fewer than are multiplied at a time, more than a task holds, several images
SIZES = [(1, 16, 16, 4, 4), (1, 16, 32, 1, 1), (2, 32, 16, 5, 3), (1, 48, 80, 9, 14), (3, 16, 16, 1, 33),
         (2, 32, 48, 30, 29), (1, 144, 16, 27, 26)]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("low", [float("-inf"), 0.0], ids=["linear", "relu6"])
def test_it_equals_the_convolution(size: tuple[int, ...], low: float) -> None:
    s = sample(*size)
    high = 6.0 if low == 0 else float("inf")
    weight = winograd_weight(s["weight"])
    wide = {name: t.double() for name, t in s.items()}
    wanted = F.conv2d(wide["x"], wide["weight"], wide["bias"], padding=1)
    scale = F.conv2d(wide["x"].abs(), wide["weight"].abs(), padding=1)  # what rounding errors are in proportion to
    for x in (s["x"], s["x"].contiguous(memory_format=torch.channels_last)):
        got = winograd_conv2d(x, weight, s["bias"], None, low, high)
        assert got.is_contiguous(memory_format=torch.channels_last)
        assert ((got - wanted.clamp(low, high)).abs() <= 2e-6 * scale).all()
        got = winograd_conv2d(x, weight, None, s["other"], low, high)
        exact = (wanted - wide["bias"][:, None, None] + wide["other"]).clamp(low, high)
        assert ((got - exact).abs() <= 2e-6 * scale + 1e-6).all()


@pytest.mark.parametrize("size", [(1, 64, 256, 12, 12), (2, 32, 32, 60, 60)], ids=str)
def test_it_is_the_same_with_any_number_of_threads(size: tuple[int, ...]) -> None:
    s = sample(*size)
    weight = winograd_weight(s["weight"])
    whatever_the_threads(lambda: winograd_conv2d(s["x"], weight, s["bias"], s["other"], 0.0), 1, 2, 3)


def test_empty_maps_and_nan() -> None:
    s = sample(1, 16, 16, 12, 12)
    weight = winograd_weight(s["weight"])
    for shape in ((0, 16, 8, 8), (2, 16, 0, 8), (1, 16, 8, 0)):
        assert winograd_conv2d(torch.zeros(shape), weight).shape == shape
    s["x"][0, 3, 0, 0] = float("nan")
    got = winograd_conv2d(s["x"], weight, None, None, 0.0, 6.0)
    assert got[:, :, :2, :2].isnan().all()
    assert not got[:, :, 4:, 4:].isnan().any()


def test_the_fake_kernel_matches() -> None:
    s = sample(2, 16, 32, 6, 7)
    weight = winograd_weight(s["weight"])
    op = torch.ops.pyrcnn._winograd_conv2d.default
    for x in (s["x"], s["x"].contiguous(memory_format=torch.channels_last)):
        arguments = (x, weight, s["bias"], s["other"], 0.0, 6.0)
        torch.library.opcheck(op, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("input", torch.zeros(1, 8, 4, 4)), ("input", torch.zeros(16, 4, 4)), ("input", torch.zeros(1, 16, 4, 4).double()),
     ("weight", torch.zeros(2, 36, 32, 16)), ("weight", torch.zeros(2, 16, 36, 16).transpose(1, 2)),
     ("bias", torch.zeros(16)), ("other", torch.zeros(1, 32, 4, 5)), ("other", torch.zeros(1, 32, 4, 4).half())],
)  # fmt: skip
def test_bad_arguments(name: str, value: Tensor) -> None:
    good = {"input": torch.zeros(1, 16, 4, 4), "weight": torch.zeros(2, 36, 16, 16), "bias": None, "other": None}
    arguments: dict[str, Any] = good | {name: value}
    with pytest.raises(InputError, match=f"^{name} must be"):
        winograd_conv2d(**arguments)


def test_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    as_on(monkeypatch, kernels="avx2")

    def conv(inputs: int = 32, outputs: int = 32, **options: Any) -> torch.nn.Conv2d:
        return torch.nn.Conv2d(inputs, outputs, **({"kernel_size": 3, "padding": 1} | options))

    size = (1, 32, 32, 32)
    assert is_winograd_faster(conv(), size)
    for other in (conv(stride=2), conv(padding=0), conv(kernel_size=5, padding=2), conv(groups=2), conv(outputs=90),
                  conv(dilation=2, padding=2), conv(padding_mode="reflect"), conv().double()):  # fmt: skip
        assert not is_winograd_faster(other, size)
    assert not is_winograd_faster(conv(), (1, 32, 8, 8))
    model = small("centernet_resnet50_v2_512")

    def used(**options: Any) -> bool:
        return any(isinstance(m, WinogradConv2d) for m in deploy.optimize(model, engine="native", **options).modules())

    assert used()
    assert not used(winograd=False)
    assert not used(channels_last=False)
    assert not used(fuse=False)
    assert not used(dtype=torch.bfloat16)
    as_on(monkeypatch, kernels="avx512", bfloat16=True)
    assert used()
    assert not used(dtype=torch.bfloat16)
    as_on(monkeypatch, kernels="default")
    assert not used()  # measured with vector instructions only
