"""torch.ops.torchvision after provide_torchvision(), in a process of its own: test_provide.py runs this file.

``PYRCNN_TEST_PROVIDE`` says what torchvision there is: ``absent`` (hidden if it is installed) or ``installed``.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import pyrcnn
from pyrcnn import ops

if os.environ["PYRCNN_TEST_PROVIDE"] == "absent":
    sys.modules["torchvision"] = None  # type: ignore[assignment]
OUTCOME = pyrcnn.provide_torchvision()
tv = torch.ops.torchvision
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def boxes(count: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    corner = torch.rand(count, 2) * 100
    return torch.cat([corner, corner + torch.rand(count, 2) * 40 + 1], 1).to(device, dtype), torch.rand(count).to(
        device, dtype
    )


def regions(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two images with six channels, and five RoIs, of which one is outside of the feature map."""
    rois = torch.tensor([[0, 1, 2, 9, 8], [1, 0, 0, 4, 5], [1, 3, 3, 12, 11], [0, 60, 60, 70, 70], [0, 2, 2, 2.5, 3]])
    return torch.rand(2, 6, 9, 11, device=device).to(dtype), rois.to(device, dtype)


def test_ours_is_used() -> None:
    assert OUTCOME == "defined"
    assert pyrcnn.provide_torchvision() == pyrcnn.provide_torchvision(override=True) == "defined"


@pytest.mark.parametrize("dtype", DTYPES)
def test_nms(dtype: torch.dtype, device) -> None:
    found = tv.nms(*boxes(300, dtype, device), 0.3)
    torch.manual_seed(0)
    assert torch.equal(found, ops.nms(*boxes(300, dtype, device), 0.3))
    assert 10 < len(found) < 300
    assert tv.nms(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5).tolist() == []


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", DTYPES)
def test_regions(dtype: torch.dtype, layout: torch.memory_format, device) -> None:
    x, rois = regions(dtype, device)
    x = x.to(memory_format=layout)
    got, want = tv.roi_align(x, rois, 0.5, 3, 4, 2, True), ops.roi_align(x, rois, (3, 4), 0.5, 2, True)
    assert got.is_contiguous()  # as torchvision's fake kernel promises
    torch.testing.assert_close(got, want)
    got, places = tv.roi_pool(x, rois, 0.5, 3, 4)
    assert (got.is_contiguous(), places.is_contiguous(), places.dtype) == (True, True, torch.int32)
    torch.testing.assert_close(got, ops.roi_pool(x, rois, (3, 4), 0.5))
    image = rois[:, 0].long()[:, None, None, None]
    channel = torch.arange(6, device=device)[:, None, None]
    values = x.flatten(2)[image, channel, places.long().clamp(min=0)]
    torch.testing.assert_close(torch.where(places < 0, 0, values), got)


def pool(x: Tensor, rois: Tensor) -> Tensor:
    return tv.roi_pool(x, rois, 0.5, 3, 4)[0]


def align(x: Tensor, rois: Tensor) -> Tensor:
    return tv.roi_align(x, rois, 0.5, 3, 4, 2, False)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("function", [align, pool])
def test_gradients(function: Callable[..., Tensor], deterministic: bool, device) -> None:
    x, rois = regions(torch.float64, device)
    x.requires_grad_()
    torch.use_deterministic_algorithms(deterministic)
    try:
        assert torch.autograd.gradcheck(lambda x: function(x, rois), (x,), nondet_tol=1e-6)
        (grad,) = torch.autograd.grad(function(x, rois).square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="double backwards on roi_"):
            grad.sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype: torch.dtype, device) -> None:
    """Coordinates are computed in float32, and the results have the dtype of the input."""
    (b, s), (x, rois) = boxes(300, dtype, device), regions(dtype, device)
    with torch.autocast(device.type, torch.bfloat16):
        found, aligned = tv.nms(b, s.float(), 0.3), align(x, rois.float())  # mixed types, which both become float32
    assert torch.equal(found, ops.nms(b.float(), s.float(), 0.3))
    assert aligned.dtype == dtype
    torch.testing.assert_close(aligned, ops.roi_align(x.float(), rois.float(), (3, 4), 0.5, 2).to(dtype))


def samples(device: torch.device) -> list[tuple[Any, tuple[Any, ...]]]:
    b, s = boxes(20, torch.float32, device)
    x, rois = regions(torch.float32, device)
    x.requires_grad_()
    grad, places = torch.rand(5, 6, 3, 4, device=device), tv.roi_pool(x, rois, 0.5, 3, 4)[1]
    return [
        (tv.nms, (b, s, 0.5)),
        (tv.roi_align, (x, rois, 0.5, 3, 4, 2, True)),
        (tv.roi_pool, (x, rois, 0.5, 3, 4)),
        (tv._roi_align_backward, (grad, rois, 0.5, 3, 4, 2, 6, 9, 11, 2, True)),
        (tv._roi_pool_backward, (grad, rois, places, 0.5, 3, 4, 2, 6, 9, 11)),
    ]


@pytest.mark.parametrize("index", range(5))
def test_opcheck(index: int, device) -> None:
    operator, arguments = samples(device)[index]
    torch.library.opcheck(operator.default, arguments)


class Net(torch.nn.Module):
    def forward(self, b: Tensor, s: Tensor, x: Tensor, rois: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        aligned = torch.ops.torchvision.roi_align(x, rois, 0.5, 3, 4, 2, True)
        return torch.ops.torchvision.nms(b, s, 0.5), aligned, torch.ops.torchvision.roi_pool(x, rois, 0.5, 3, 4)[0]


def test_scripts_and_programs_are_saved_and_loaded(device) -> None:
    arguments = (*boxes(20, torch.float32, device), *regions(torch.float32, device))
    want = Net()(*arguments)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Net()), file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(*arguments), want)
    program, file = torch.export.export(Net(), arguments), io.BytesIO()
    assert {"torchvision::nms", "torchvision::roi_align", "torchvision::roi_pool"} <= {
        node.target.name().partition(".")[0] for node in program.graph.nodes if node.op == "call_function"
        and isinstance(node.target, torch._ops.OpOverload)
    }  # fmt: skip
    torch.export.save(program, file)
    file.seek(0)
    torch.testing.assert_close(torch.export.load(file).module()(*arguments), want)


@pytest.mark.parametrize(("threshold", "kept"), [(0.2, 1), (0.7, 2)])
def test_an_iou_at_the_threshold(threshold: float, kept: int) -> None:
    """The float32 nearest to 0.2 is above 0.2, that of 0.7 below 0.7; torchvision's CPU compares with both."""
    b = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 10 * threshold]])
    assert ops.box_iou(b, b)[0, 1] == torch.tensor(threshold)
    assert len(tv.nms(b, torch.tensor([0.9, 0.8]), threshold)) == kept


def test_quantized(device) -> None:
    b, s = boxes(300, torch.float32, device)
    b, s = b.round().to(torch.uint8), (s * 255).to(torch.uint8)
    assert torch.equal(tv.qnms(b, s, 0.3), ops.nms(b.float(), s.float(), 0.3))
    x, rois = regions(torch.float32, device)
    x, rois = (x[:1] * 200).to(torch.uint8), ((rois[:3] + 4) * 2).to(torch.uint8)  # scales 0.1 and 0.5; zeros 7 and 8
    want = ops.roi_align((x.float() - 7) * 0.1, torch.cat([rois[:, :1] * 0, (rois[:, 1:] - 8.0) * 0.5], 1), 3, 0.5, 2)
    found = tv.qroi_align(x, rois, 0.1, 7, 0.5, 8, 0.5, 3, 3, 2, False)
    assert found.dtype == torch.uint8
    assert ((found.float() - 7) * 0.1 - want).abs().max() <= 0.0501
    with pytest.raises(RuntimeError, match="Only one image per batch"):
        tv.qroi_align(torch.cat([x, x]), rois, 0.1, 7, 0.5, 8, 0.5, 3, 3, 2, False)


def bad_calls() -> dict[str, tuple[Callable[[], Any], str]]:
    b, s = boxes(4, torch.float32, torch.device("cpu"))
    x, rois = regions(torch.float32, torch.device("cpu"))
    types = "but type torch.FloatTensor does not equal torch.DoubleTensor"
    return {
        "boxes 1d": (lambda: tv.nms(s, s, 0.5), "boxes should be a 2d tensor, got 1D"),
        "boxes of 3": (lambda: tv.nms(b[:, :3], s, 0.5), "boxes should have 4 elements in dimension 1, got 3"),
        "scores 2d": (lambda: tv.nms(b, b, 0.5), "scores should be a 1d tensor, got 2D"),
        "counts": (
            lambda: tv.nms(b, s[:3], 0.5),
            "boxes and scores should have same number of elements in dimension 0, got 4 and 3",
        ),
        "nms types": (lambda: tv.nms(b, s.double(), 0.5), "dets should have the same type as scores"),
        "nms integers": (lambda: tv.nms(b.long(), s.long(), 0.5), "\"nms_kernel\" not implemented for 'Long'"),
        "align types": (lambda: align(x, rois.double()), types + ".*roi_align_forward_kernel"),
        "pool types": (lambda: pool(x, rois.double()), types + ".*roi_pool_forward_kernel"),
        "rois of 4": (lambda: align(x, rois[:, 1:]), r"rois must have shape as Tensor\[K, 5\]"),
        "image number": (lambda: align(x, rois + 2), r"rois has batch index|pyrcnn::roi_align"),
        "grad types": (
            lambda: tv._roi_align_backward(torch.rand(5, 6, 3, 4), rois.double(), 0.5, 3, 4, 2, 6, 9, 11, 2, True),
            types + ".*roi_align_backward_kernel",
        ),
    }


@pytest.mark.parametrize("name", bad_calls())
def test_errors_are_torchvisions(name: str) -> None:
    call, text = bad_calls()[name]
    with pytest.raises(RuntimeError, match=text) as error:
        call()
    assert "pyrcnn: bad argument" not in str(error.value)


def test_operators_that_we_lack_say_so_when_called() -> None:
    b, s = boxes(4, torch.float32, torch.device("cpu"))
    x, rois = regions(torch.float32, torch.device("cpu"))
    for name, arguments in {
        "box_iou_rotated": (b, b), "ps_roi_align": (x, rois, 0.5, 1, 2, 2),
        "ps_roi_pool": (x, rois, 0.5, 1, 2), "deform_conv2d": (x, x, x, x, s, *[1] * 8, True),
    }.items():  # fmt: skip
        with pytest.raises(NotImplementedError, match=f"torchvision::{name} needs .* pyrcnn has no such operator"):
            getattr(tv, name)(*arguments)


@pytest.mark.skipif(os.environ["PYRCNN_TEST_PROVIDE"] != "installed", reason="torchvision's Python functions")
def test_torchvisions_functions_and_detectors(device) -> None:
    import torchvision

    b, s = boxes(300, torch.float32, device)
    x, rois = regions(torch.float32, device)
    groups = torch.arange(300, device=device) % 7
    assert torch.equal(torchvision.ops.batched_nms(b, s, groups, 0.3), ops.batched_nms(b, s, groups, 0.3))
    assert torch.equal(torchvision.ops.roi_pool(x, [rois[:2, 1:], rois[2:, 1:]], 2), ops.roi_pool(
        x, [rois[:2, 1:], rois[2:, 1:]], 2))  # fmt: skip
    with pytest.raises((AttributeError, RuntimeError, TypeError)):  # versions differ, but each refuses numpy arrays
        torchvision.ops.nms(b.cpu().numpy(), s.cpu().numpy(), 0.5)
    detector = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    detector.eval().to(device)
    assert set(detector([torch.rand(3, 60, 80, device=device)])[0]) == {"boxes", "labels", "scores"}
