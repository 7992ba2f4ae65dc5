"""Convolutions by tiles are convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyrcnn import InputError
from pyrcnn.ops.tile_conv import tile_conv2d, tile_weight
from tests.ops.checks import whatever_the_threads

# inputs, outputs, kernel, stride, padding; N, H, W: channels and pixels that fill no tile, rows that are multiplied
# one by one and as one, patches that are cut
CASES = [(64, 64, 3, 1, 1, 1, 16, 16), (24, 40, 3, 1, 1, 2, 13, 21), (3, 70, 3, 2, 1, 1, 33, 47),
         (1, 1, 1, 1, 0, 1, 1, 1), (100, 5, 1, 1, 0, 3, 7, 9), (64, 256, 1, 2, 0, 1, 15, 34),
         (512, 33, 3, 2, 0, 1, 17, 17), (32, 32, 3, 1, 2, 1, 5, 5), (256, 32, 3, 1, 1, 1, 20, 150),
         (2048, 32, 1, 1, 0, 1, 17, 34)]  # fmt: skip


def sample(inputs: int, outputs: int, kernel: int, n: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, inputs, h, w, generator=g).bfloat16()
    weight = torch.randn(outputs, inputs, kernel, kernel, generator=g).bfloat16()
    return x, weight, torch.randn(outputs, generator=g)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_the_convolution(case: tuple[int, ...]) -> None:
    inputs, outputs, kernel, stride, padding, n, h, w = case
    x, weight, bias = sample(inputs, outputs, kernel, n, h, w)
    packed, first = tile_weight(weight, bias)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), stride, padding)
    scale = F.conv2d(x.double().abs(), weight.double().abs(), None, stride, padding)  # rounding errors' proportion
    other = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    for layout in (torch.contiguous_format, torch.channels_last):
        for added, low, high in ((None, float("-inf"), float("inf")), (other, 0.0, 6.0)):
            pixels = x.contiguous(memory_format=layout)
            sums = None if added is None else added.contiguous(memory_format=layout)
            got = tile_conv2d(pixels, packed, first, sums, outputs, kernel, stride, padding, low, high)
            assert got.is_contiguous(memory_format=torch.channels_last)
            wanted = (exact if added is None else exact + added.double()).clamp(low, high)
            assert ((got.double() - wanted).abs() <= wanted.abs() / 256 + 1e-5 * scale).all()


@pytest.mark.parametrize("case", CASES[:8], ids=str)
def test_threads_change_nothing(case: tuple[int, ...]) -> None:
    inputs, outputs, kernel, stride, padding, n, h, w = case
    x, weight, bias = sample(inputs, outputs, kernel, n, 3 * h, 2 * w)
    packed, first = tile_weight(weight, bias)
    whatever_the_threads(lambda: tile_conv2d(x, packed, first, None, outputs, kernel, stride, padding))


def test_nothing() -> None:
    packed, first = tile_weight(torch.zeros(8, 4, 3, 3))
    for shape in ((0, 4, 8, 8), (2, 4, 0, 8), (1, 4, 8, 0)):
        got = tile_conv2d(torch.zeros(shape, dtype=torch.bfloat16), packed, first, None, 8, 3, padding=1)
        assert got.shape == (shape[0], 8, *shape[2:])
    got = tile_conv2d(torch.zeros(1, 4, 2, 9, dtype=torch.bfloat16), packed, first, None, 8, 3)
    assert got.shape == (1, 8, 0, 7)


def test_not_a_number_stays_where_it_is_seen() -> None:
    x, weight, bias = sample(40, 20, 3, 1, 9, 30)
    packed, first = tile_weight(weight, bias)
    for value in (float("nan"), float("inf")):
        x[0, 39, 4, 7] = value
        got = tile_conv2d(x, packed, first, None, 20, 3, 1, 1)
        seen = torch.zeros(9, 30, dtype=torch.bool)
        seen[3:6, 6:9] = True
        assert not got.isfinite()[:, :, seen].any()
        assert got.isfinite()[:, :, ~seen].all()
    x[0, 39, 4, 7] = float("nan")
    clamped = tile_conv2d(x, packed, first, None, 20, 3, 1, 1, 0.0, 6.0)
    assert clamped[:, :, 4, 7].isnan().all()


def test_it_traces() -> None:
    x, weight, bias = sample(40, 20, 3, 2, 9, 30)
    packed, first = tile_weight(weight, bias)
    op = torch.ops.pyrcnn._tile_conv2d.default
    for stride, shape in ((1, (2, 20, 9, 30)), (2, (2, 20, 5, 15))):
        other = torch.zeros(shape, dtype=torch.bfloat16)
        for pixels in (x, x.contiguous(memory_format=torch.channels_last)):
            arguments = (pixels, packed, first, other, 20, 3, stride, 1, 0.0, 6.0)
            torch.library.opcheck(op, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("input", torch.zeros(1, 40, 4, 4)), ("input", torch.zeros(40, 4, 4).bfloat16()),
     ("weight", torch.zeros(1, 9 * 32, 32, 2)), ("weight", torch.zeros(1, 9 * 16, 32, 2).bfloat16()),
     ("weight", torch.zeros(1, 32, 9 * 32, 2).bfloat16().transpose(1, 2)), ("bias", torch.zeros(20)),
     ("bias", torch.zeros(32).bfloat16()), ("other", torch.zeros(1, 20, 4, 5).bfloat16()),
     ("other", torch.zeros(1, 20, 4, 4)), ("outputs", 0), ("kernel", 2), ("stride", 3), ("padding", 3),
     ("padding", -1)],
)  # fmt: skip
def test_bad_arguments(name: str, value: Any) -> None:
    packed, first = tile_weight(torch.zeros(20, 40, 3, 3))
    good = {"input": torch.zeros(1, 40, 4, 4).bfloat16(), "weight": packed, "bias": first, "other": None,
            "outputs": 20, "kernel": 3, "stride": 1, "padding": 1}  # fmt: skip
    tile_conv2d(**good)  # type: ignore[arg-type]
    arguments: dict[str, Any] = good | {name: value}
    with pytest.raises(InputError, match=f"^{name} must be"):
        tile_conv2d(**arguments)
