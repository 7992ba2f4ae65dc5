"""RoIAlign and RoIPool: one level and several, both memory formats, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks.measuring import data
from benchmarks.peers import onnx_roi_align, openvino, torchvision
from pyrcnn import ops

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def check_close(ours: Any, theirs: Any, name: str) -> None:
    tolerance = 2e-4 if ours.dtype == torch.float32 else 3e-2  # where a coordinate lies on a map of 336 columns
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=tolerance, atol=tolerance)


def bytes_moved(count: int, channels: int, bins: int, maps: list[torch.Tensor]) -> float:
    size = maps[0].element_size()
    return size * (count * channels * bins + sum(m.numel() for m in maps))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    ("dtype", "count", "sampling"), [("float32", 1000, 2), ("bfloat16", 1000, 2), ("float32", 512, -1)]
)
def bench_roi_align(compare, device, ipex, layout: str, dtype: str, count: int, sampling: int) -> None:
    maps = data.features(256, data.LEVELS[:1], device, DTYPES[dtype], layout == "nhwc")
    rois = data.rois(count, device)
    tv = torchvision()
    same = rois.to(maps[0].dtype)
    wide = maps[0].float()  # torchvision has no bfloat16: its users convert, which we count
    peers: dict[str, Any] = {"ipex": ipex(maps[0], rois, 7, 0.25, max(sampling, 0))}
    if tv is not None:
        if dtype == "float32":
            peers["torchvision"] = lambda: tv.ops.roi_align(maps[0], same, 7, 0.25, sampling)
        else:
            peers["torchvision"] = lambda: tv.ops.roi_align(maps[0].float(), rois, 7, 0.25, sampling).to(maps[0].dtype)
    if device.type == "cpu" and dtype == "float32" and layout == "nchw":
        peers["onnxruntime"] = onnx_roi_align(wide, rois, 7, 0.25, max(sampling, 0))
        peers["openvino"] = openvino(
            lambda o, x, b, i: o.roi_align(x, b, i, 7, 7, max(sampling, 0), 0.25, "avg", aligned_mode="asymmetric"),
            [wide, rois[:, 1:].contiguous(), rois[:, 0].long()],
        )
    compare(
        lambda: ops.roi_align(maps[0], rois, 7, 0.25, sampling),
        peers,
        agree=check_close,
        bytes=bytes_moved(count, 256, 49, maps),
    )


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def bench_roi_align_training(compare, device, layout: str) -> None:
    (x,) = data.features(256, data.LEVELS[:1], device, torch.float32, layout == "nhwc")
    x.requires_grad_()
    rois = data.rois(512, device)
    tv = torchvision()

    def step(function: Any) -> torch.Tensor:
        out = function(x, rois, 7, 0.25, 2)
        (gradient,) = torch.autograd.grad(out, x, out.detach())
        return gradient

    compare(
        lambda: step(ops.roi_align),
        {"torchvision": tv and (lambda: step(tv.ops.roi_align))},
        agree=check_close,
        bytes=2 * bytes_moved(512, 256, 49, [x]),
    )


def levels_in_openvino(opset: Any, *inputs: Any) -> Any:
    from openvino.utils.node_factory import NodeFactory  # the opsets lack a function for this one

    strides = [s for s, _, _ in data.LEVELS]
    settings = {"output_size": 7, "sampling_ratio": 2, "pyramid_scales": strides, "aligned": False}
    return NodeFactory("opset6").create("ExperimentalDetectronROIFeatureExtractor", list(inputs), settings)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(("dtype", "count"), [("float32", 1000), ("float32", 512), ("bfloat16", 1000)])
def bench_roi_align_levels(compare, device, layout: str, dtype: str, count: int) -> None:
    maps = data.features(256, data.LEVELS, device, DTYPES[dtype], layout == "nhwc")
    rois = data.rois(count, device)
    scales = [1 / s for s, _, _ in data.LEVELS]
    tv = torchvision()
    peer = None
    if tv is not None:
        names = [str(i) for i in range(len(maps))]
        pooler = tv.ops.MultiScaleRoIAlign(names, 7, 2)
        boxes = [rois[:, 1:].contiguous()]

        def peer() -> torch.Tensor:
            return pooler({n: m.float() for n, m in zip(names, maps, strict=True)}, boxes, [(800, 1344)]).to(
                maps[0].dtype
            )

    theirs = None
    if dtype == "float32" and layout == "nchw":
        theirs = openvino(levels_in_openvino, [rois[:, 1:].contiguous(), *maps])
    compare(
        lambda: ops.roi_align_levels(maps, rois, 7, scales),
        {"torchvision": peer, "openvino": theirs},
        agree=check_close,
        bytes=bytes_moved(count, 256, 49, maps),
    )


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("count", [300, 2000])
def bench_roi_pool(compare, device, layout: str, count: int) -> None:
    (x,) = data.features(512, ((16, 38, 63),), device, torch.float32, layout == "nhwc")
    rois = data.rois(count, device, size=(600, 1000))
    tv = torchvision()
    peers: dict[str, Any] = {"torchvision": tv and (lambda: tv.ops.roi_pool(x, rois, 7, 1 / 16))}
    if layout == "nchw":
        peers["openvino"] = openvino(lambda o, f, r: o.roi_pooling(f, r, [7, 7], 1 / 16, "max"), [x, rois])
    compare(
        lambda: ops.roi_pool(x, rois, 7, 1 / 16),
        peers,
        agree=lambda a, b, name: check_close(a, b, name) if name == "torchvision" else None,
        bytes=bytes_moved(count, 512, 49, [x]),
    )


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def bench_crop_and_resize(compare, device, layout: str) -> None:
    """300 crops of 14 x 14 at stride 16, beside one ``grid_sample`` of all their points."""
    height, width, count, size = 38, 63, 300, 14
    (x,) = data.features(256, ((16, height, width),), device, torch.float32, layout == "nhwc")
    corners = data.rois(count, device, size=(600, 1000))[:, [2, 1, 4, 3]]
    boxes = corners / torch.tensor([600.0, 1000.0, 600.0, 1000.0], device=device)
    indices = torch.zeros(count, dtype=torch.int64, device=device)

    def in_torch() -> torch.Tensor:
        steps = torch.linspace(0, 1, size, device=device)
        y1, x1, y2, x2 = boxes.unbind(1)
        ys = y1[:, None] + (y2 - y1)[:, None] * steps  # [K, size]
        xs = x1[:, None] + (x2 - x1)[:, None] * steps
        grid = torch.stack([xs[:, None].expand(-1, size, -1), ys[..., None].expand(-1, -1, size)], 3) * 2 - 1
        sampled = F.grid_sample(x, grid.flatten(0, 1)[None], align_corners=True)  # [1, C, K * size, size]
        return (
            sampled.view(-1, count, size, size)
            .transpose(0, 1)
            .contiguous(memory_format=torch.channels_last if layout == "nhwc" else torch.contiguous_format)
        )

    compare(
        lambda: ops.crop_and_resize(x, boxes, indices, (size, size)),
        {"torch": in_torch},
        agree=check_close,
        bytes=bytes_moved(count, 256, size * size, [x]),
    )
