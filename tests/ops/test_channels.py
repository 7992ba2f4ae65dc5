"""RoI operators at sizes where their kernels change: channels of one load, channels of a block, RoIs of a batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pyrcnn import ops
from tests.cases import TOLERANCE
from tests.ops import checks


def rois_of(count: int, device: torch.device) -> Tensor:
    """Return RoIs [count, 5] of two images, inside and outside feature maps of 7 x 6."""
    generator = torch.Generator().manual_seed(count)
    images = torch.arange(count)[:, None] % 2
    start = torch.rand(count, 2, generator=generator) * 6 - 1
    size = torch.rand(count, 2, generator=generator) * 5
    return torch.cat((images, start, start + size), 1).to(device)


def crops(features: Tensor, rois: Tensor) -> Tensor:
    boxes = rois[:, [2, 1, 4, 3]] / torch.tensor([6.0, 5, 6, 5], device=rois.device)
    return ops.crop_and_resize(features, boxes, rois[:, 0].long(), (3, 2))


OPERATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "roi_align": lambda features, rois: ops.roi_align(features, rois, (3, 2), 1.0, 2, True),
    "roi_align_levels": lambda features, rois: ops.roi_align_levels(
        [features, features[:, :, ::2, ::2]], rois, (3, 2), [1.0, 0.5], 2, False, 1.5, 0
    ),
    "roi_pool": lambda features, rois: ops.roi_pool(features, rois, (3, 2)),
    "crop_and_resize": crops,
}


def features_of(channels: int, dtype: torch.dtype, device: torch.device, channels_last: bool, offset: int) -> Tensor:
    """Return feature maps [2, channels, 7, 6], exact in every dtype, starting ``offset`` elements into their memory."""
    generator = torch.Generator().manual_seed(channels)
    size = 2 * channels * 42
    values = torch.randperm(size, generator=generator).remainder(1009).sub(500) / 256
    memory = torch.empty(size + offset, dtype=dtype, device=device)[offset:]
    plain = values.view(2, channels, 7, 6).to(device, dtype)
    if channels_last:
        return memory.view(2, 7, 6, channels).permute(0, 3, 1, 2).copy_(plain)
    return memory.view(2, channels, 7, 6).copy_(plain)


def with_gradient(
    operator: Callable[[Tensor, Tensor], Tensor], features: Tensor, rois: Tensor
) -> tuple[Tensor, Tensor]:
    leaf = features.detach().requires_grad_()
    out = operator(leaf, rois)
    weights = torch.arange(out.numel(), device=out.device).remainder(17).view(out.shape).sub(8) / 8
    (gradient,) = torch.autograd.grad(out, leaf, weights.to(out.dtype))
    return out.detach(), gradient


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("channels", [1, 7, 8, 9, 16, 24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", OPERATORS)
def test_any_number_of_channels_anywhere_in_memory(
    name: str, dtype: torch.dtype, channels: int, channels_last: bool, offset: int, device
) -> None:
    features, rois = features_of(channels, dtype, device, channels_last, offset), rois_of(5, device)
    wanted = with_gradient(OPERATORS[name], features.double().contiguous(), rois)
    for got, want in zip(with_gradient(OPERATORS[name], features, rois), wanted, strict=True):
        scale = want.abs().max().clamp(min=1)
        torch.testing.assert_close(got.double() / scale, want / scale, rtol=0, atol=4 * TOLERANCE[dtype])


@pytest.mark.parametrize("channels", [1, 31, 64, 127, 128, 129, 257])
@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_in_a_fixed_order_at_the_edges_of_blocks(name: str, channels: int, device) -> None:
    for count in (0, 1, 31, 32, 33, 127, 128, 129) if channels in (1, 129) else (5,):
        for channels_last in (False, True):
            features, rois = features_of(channels, torch.float64, device, channels_last, 0), rois_of(count, device)
            wanted = with_gradient(OPERATORS[name], features, rois)[1]
            with checks.deterministic():
                got = with_gradient(OPERATORS[name], features, rois)[1]
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
