"""RoIPool beyond the contract: the places of maxima in 16 and 32 bits, and gradients in any memory layout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyrcnn import InputError
from pyrcnn.ops import roi_pool

_op = torch.ops.pyrcnn.roi_pool.default
_backward_op = torch.ops.pyrcnn._roi_pool_backward.default
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def _map(height: int, width: int, device: torch.device, channels: int = 70) -> Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1)).to(device)


def _rois(device: torch.device) -> Tensor:
    corners = torch.rand(40, 2, 2, generator=torch.Generator().manual_seed(2)).sort(1).values.flatten(1) * 500
    return torch.cat([torch.arange(40)[:, None] % 2, corners], 1).to(device)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_places_are_the_same_in_16_and_in_32_bits(
    layout: torch.memory_format, dtype: torch.dtype, device: torch.device
) -> None:
    x, rois = _map(33, 30, device).to(dtype).contiguous(memory_format=layout), _rois(device)
    few, many = (_op(x, rois, 1 / 16, 7, 5, bits) for bits in (16, 32))
    assert few[1].dtype == torch.int16
    assert many[1].dtype == torch.int32
    assert few[1].is_contiguous(memory_format=layout)
    for a, b in zip(few, many, strict=True):
        assert torch.equal(a, b.to(a.dtype))
    grads = [_backward_op(few[0], places, rois, 1 / 16, 2, 33, 30, False, True) for places in (few[1], many[1])]
    assert torch.equal(*grads)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_places_in_maps_of_many_pixels(layout: torch.memory_format, device: torch.device) -> None:
    x = _map(300, 310, device, channels=9).contiguous(memory_format=layout).requires_grad_()
    rois = _rois(device)
    out, places = _op(x, rois, 0.6, 2, 2, 32)
    assert places.max() >= 1 << 15
    values = x.detach().flatten(2)[rois[:, 0].long()].gather(2, places.flatten(2).long().clamp(min=0))
    assert torch.equal(values.reshape(out.shape).where(places >= 0, 0), out.detach())
    (grad,) = torch.autograd.grad(roi_pool(x, rois, 2, 0.6).sum(), x)
    assert grad.sum() == (places >= 0).sum()
    held = torch.zeros_like(grad).flatten(2).index_put(_indices(rois, places), (places >= 0).float(), accumulate=True)
    assert torch.equal(held.reshape(grad.shape), grad)


def _indices(rois: Tensor, places: Tensor) -> tuple[Tensor, ...]:
    images = rois[:, 0].long()[:, None, None, None].expand(places.shape)
    channels = torch.arange(places.shape[1], device=places.device)[:, None, None].expand(places.shape)
    return images, channels, places.long().clamp(min=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [70, 64, 3])
def test_a_gradient_may_lie_in_any_order(layout: torch.memory_format, channels: int, device: torch.device) -> None:
    x, rois = _map(33, 30, device, channels).contiguous(memory_format=layout), _rois(device)
    out, places = _op(x, rois, 1 / 16, 7, 5, 16)
    wide = torch.randn(out.shape[0], 2 * channels, 9, 6, generator=torch.Generator().manual_seed(3)).to(device)
    for grad in (
        wide[:, ::2, 1:8, :5],
        wide[:, :1, :7, :5].expand(out.shape),
        wide[:, :channels, :5, :].permute(0, 1, 3, 2)[:, :, :5].repeat(1, 1, 2, 1)[:, :, :7],
        wide[:1, :channels, :7, :5].contiguous(memory_format=torch.channels_last).expand(out.shape),
        torch.ones((), device=device).expand(out.shape),
    ):
        for last in (False, True):
            results = [_backward_op(g, places, rois, 1 / 16, 2, 33, 30, last, True) for g in (grad, grad.contiguous())]
            assert torch.equal(*results)


def test_places_must_fit(device: torch.device) -> None:
    refused = (ValueError, RuntimeError)  # which one the native operator raises depends on torch's version
    with pytest.raises(refused, match="argmax_bits must be 0, 16 or 32, got 8"):
        _op(_map(5, 5, device), _rois(device), 1.0, 2, 2, 8)
    with pytest.raises(refused, match="argmax_bits must be 32"):
        _op(_map(182, 182, device, channels=1), _rois(device), 1.0, 2, 2, 16)
    with pytest.raises(InputError, match="output_size"):
        roi_pool(_map(5, 5, device).requires_grad_(), _rois(device), 0)


def test_export_leaves_the_size_of_maps_open() -> None:
    class Pool(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 8, 1)

        def forward(self, x: Tensor, rois: Tensor) -> Tensor:
            return roi_pool(self.layer(x), rois, 7, 1 / 16)

    rois, size = _rois(torch.device("cpu")), torch.export.Dim("size", min=8, max=4000)
    model = Pool()
    program = torch.export.export(model, (torch.randn(2, 3, 50, 50), rois), dynamic_shapes=({2: size, 3: size}, None))
    for side in (20, 200):
        x = torch.randn(2, 3, side, side)
        assert torch.equal(program.module()(x, rois), model(x, rois))
