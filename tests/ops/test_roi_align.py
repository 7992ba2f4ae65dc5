"""RoIAlign and RoIPool beyond the contract: examples, gradients of coordinates, sizes, instruction sets."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pyrcnn import InputError
from pyrcnn.ops import MultiScaleRoIAlign, RoIAlign, RoIPool, roi_align, roi_align_levels, roi_pool
from pyrcnn.ops.roi_pool import _double_backward
from tests.conftest import python
from tests.reference import roi_align as reference

BOXES = torch.tensor([[1.0, 2, 30, 40], [3, 3, 8, 9], [-5, 2, 90, 33]], dtype=torch.float64)
INDEX = torch.tensor([[0.0], [1], [1]], dtype=torch.float64)


def rois_of(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([INDEX.to(boxes), boxes], 1)


def test_a_ramp_is_sampled_at_the_bins_centres() -> None:
    """Bilinear interpolation is exact on a plane, so each bin has the plane's value at its centre."""
    ramp = torch.arange(16.0)[:, None] * 10 + torch.arange(16.0)
    out = roi_align(ramp[None, None], torch.tensor([[0.0, 4, 2, 8, 10]]), (4, 2), 1.0, 2)
    expected = torch.tensor([3.0, 5, 7, 9])[:, None] * 10 + torch.tensor([5.0, 7])
    torch.testing.assert_close(out[0, 0], expected)
    half = roi_align(ramp[None, None], torch.tensor([[0.0, 4, 2, 8, 10]]), (4, 2), 1.0, 2, aligned=True)
    torch.testing.assert_close(half[0, 0], expected - 5.5)


@pytest.mark.parametrize("pool", [roi_align, roi_pool])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_boxes_of_many_images_read_their_own_image(pool: Any, dtype: torch.dtype) -> None:
    values = (torch.arange(2100.0) % 7).to(dtype)  # bfloat16 has all integers up to 256, float16 up to 2048
    boxes = [torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=dtype)] * 2100
    assert torch.equal(pool(values[:, None, None, None].expand(2100, 1, 2, 2), boxes, 1).flatten(), values)


def test_border_values_reach_one_pixel_out_and_no_further() -> None:
    image = torch.ones(1, 1, 4, 4)
    out = roi_align(image, torch.tensor([[0.0, -4, 0, 0, 4]]), (1, 4), 1.0, 1)
    assert out.flatten().tolist() == [0, 0, 0, 1]


def test_level_follows_the_area() -> None:
    maps = [torch.full((1, 1, 64 >> i, 64 >> i), float(i)) for i in range(4)]
    sides = [10, 111, 112, 223, 224, 447, 448, 5000]
    rois = torch.tensor([[0.0, 0, 0, side, side] for side in sides])
    scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    tops = roi_align_levels(maps, rois, 1, scales, 1).flatten().tolist()
    wanted = [reference.level_of([0, 0, s, s], scales, 224, 4) for s in sides]
    assert wanted == [0, 0, 1, 1, 2, 2, 3, 3]
    assert tops[:-1] == wanted[:-1]


@pytest.mark.parametrize("ratio", [2, -1])
@pytest.mark.parametrize("aligned", [False, True])
def test_the_coordinates_have_a_gradient(ratio: int, aligned: bool, device) -> None:
    image = torch.randn(2, 3, 9, 8, dtype=torch.float64, device=device, requires_grad=True)
    boxes = BOXES.to(device).requires_grad_()
    torch.autograd.gradcheck(lambda x, b: roi_align(x, rois_of(b), 2, 0.25, ratio, aligned), (image, boxes))


def test_second_derivatives_exist_or_raise(device) -> None:
    maps = [torch.randn(2, 2, 12 >> i, 10 >> i, dtype=torch.float64, device=device, requires_grad=True) for i in (0, 1)]
    rois = rois_of(BOXES.to(device))
    pool = lambda *x: roi_align_levels(x, rois, 2, [0.25, 0.125], canonical_size=16, canonical_level=2)  # noqa: E731
    torch.autograd.gradgradcheck(pool, maps)
    torch.autograd.gradgradcheck(lambda x: roi_pool(x, rois, 2, 0.25), maps[0])
    rois.requires_grad_()
    (gradient,) = torch.autograd.grad(roi_align(maps[0], rois, 2).sum(), rois, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        gradient.sum().backward()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(maps[0].detach(), torch.ones_like(maps[0]))
        with pytest.raises(RuntimeError, match="forward-mode"):
            roi_align(dual, rois.detach(), 2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_more_rois_than_a_grid_has_blocks(layout: torch.memory_format, device) -> None:
    image = torch.randn(1, 3, 8, 8, device=device).to(memory_format=layout)
    some = torch.tensor([[0.0, 1, 1, 5, 6], [0, 0, 0, 7, 7]], device=device)
    many = some.repeat(40_000, 1)
    for op in (lambda r: roi_align(image, r, 2, 1.0, 1), lambda r: roi_pool(image, r, 2)):
        torch.testing.assert_close(op(many), op(some).repeat(40_000, 1, 1, 1), rtol=0, atol=0)


def test_a_list_of_boxes_and_rois_are_the_same(device) -> None:
    image = torch.randn(2, 4, 16, 16, device=device)
    boxes = BOXES.to(image)
    for op in (RoIAlign(3, 0.5, 2, True), RoIPool((3, 3), 0.5)):
        torch.testing.assert_close(op(image, [boxes[:1], boxes[1:]]), op(image, rois_of(boxes)), rtol=0, atol=0)
    with pytest.raises(InputError, match="boxes must be"):
        roi_align(image, [boxes, boxes[:, :3]], 3)


def test_multi_scale_follows_each_batchs_sizes(device) -> None:
    pool = MultiScaleRoIAlign(["0", "1"], 5, 2)
    boxes = [BOXES[:1].float().to(device), BOXES[1:].float().to(device)]
    for size in (64, 128):
        maps = {
            name: torch.randn(2, 4, size >> s, size >> s, device=device) for name, s in (("0", 2), ("1", 3), ("x", 0))
        }
        expected = roi_align_levels([maps["0"], maps["1"]], rois_of(torch.cat(boxes)), 5, [1 / 4, 1 / 8])
        torch.testing.assert_close(pool(maps, boxes, [(size, size), (size - 9, 20)]), expected, rtol=0, atol=0)
    assert repr(pool) == "MultiScaleRoIAlign(featmap_names=['0', '1'], output_size=(5, 5), sampling_ratio=2)"


def test_low_precision_features_keep_the_coordinates(device) -> None:
    """At x = 1001.3, neighbouring bfloat16 numbers are 4 pixels apart."""
    image = torch.randn(1, 2, 4, 1100, dtype=torch.bfloat16, device=device)
    rois = torch.tensor([[0, 1001.3, 0, 1003.4, 3]], device=device)
    expected = reference.roi_align(image.double().cpu(), rois.double().cpu(), (2, 2), 1.0, 2)
    torch.testing.assert_close(roi_align(image, rois, 2, 1.0, 2).double().cpu(), expected, rtol=1e-2, atol=1e-2)


def test_pool_propagates_nan_and_infinities(device) -> None:
    image = torch.full((1, 1, 4, 4), -torch.inf, device=device)
    image[0, 0, 3, 3] = torch.nan
    rois = torch.tensor([[0.0, 0, 0, 3, 3]], device=device)
    out = roi_pool(image.requires_grad_(), rois, 2)
    assert out.flatten()[:3].tolist() == [-torch.inf] * 3
    assert out.flatten()[3].isnan()
    out.backward(torch.ones_like(out))
    assert image.grad is not None
    assert image.grad[0, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_every_instruction_set_agrees(capability: str) -> None:
    """Compare each instruction set of this machine with the one in use."""
    script = (
        "import torch\nfrom pyrcnn.ops import roi_align, roi_pool\ntorch.manual_seed(0)\n"
        "x = torch.randn(1, 75, 20, 20); r = torch.tensor([[0.0, 3, 4, 60, 70], [0, 10, 0, 30, 90]])\n"
        "sums = []\n"
        "for t in (x, x.to(memory_format=torch.channels_last)):\n"
        "    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):\n"
        "        y = t.to(dtype).requires_grad_(); z = roi_align(y, r, 7, 0.25, -1); p = roi_pool(y, r, 7, 0.25)\n"
        "        g, = torch.autograd.grad((z * z + p).sum(), y)\n"
        "        w = torch.cos(torch.arange(g.numel()).double()).view(g.shape)\n"
        "        sums += [float(z.double().abs().sum()), float(p.double().sum()), float((g.double() * w).sum())]\n"
        "print(sums)\n"
    )

    def sums_of(name: str) -> list[float] | None:
        environment = {**os.environ, "PYRCNN_CPU_CAPABILITY": name, "OMP_NUM_THREADS": "1"}
        command, folder = python(script)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
        if "must be one that this machine has" in done.stderr:
            return None
        assert done.returncode == 0, done.stderr
        return [float(v) for v in done.stdout.strip("[]\n").split(",")]

    found = sums_of(capability)
    if found is not None:
        assert found == pytest.approx(sums_of("default"), rel=2e-3)


def test_pool_of_no_image_has_second_derivatives_of_zero(device) -> None:
    """On CUDA, a RoI may have an image index out of range; its second derivative must read no image."""
    argmax = torch.tensor([[[[3]]], [[[-1]]]], dtype=torch.int32, device=device)
    rois = torch.tensor([[0.0, 0, 0, 1, 1], [7, 0, 0, 1, 1]], device=device)
    context = SimpleNamespace(saved_tensors=(argmax, rois))
    grad = torch.tensor([[[[torch.inf, 1.0], [2, 3]]]], device=device)
    assert _double_backward(context, grad)[0].flatten().tolist() == [3.0, 0.0]
    assert _double_backward(context, grad[:, :, :0])[0].flatten().tolist() == [0.0, 0.0]
