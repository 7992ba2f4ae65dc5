"""CenterNet's operators: peaks, keypoints, targets and preprocessing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.peers import OpenVino, openvino
from pyrcnn import ops


def heatmap(images: int, channels: int, side: int, device: torch.device) -> Tensor:
    """Smooth logits, mostly negative, with real maxima."""
    g = torch.Generator().manual_seed(channels)
    coarse = torch.randn(images, channels, side // 4, side // 4, generator=g) * 2 - 5
    fine = F.interpolate(coarse, size=(side, side), mode="bilinear")
    return (fine + 0.05 * torch.randn(fine.shape, generator=g)).to(device)


def peaks_in_torch(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As usually written: sigmoid, 3x3 maximum, equality, top-k."""
    p = x.sigmoid()
    p = p * (F.max_pool2d(p, 3, 1, 1) == p)
    return p.flatten(1).topk(k)


def peaks_in_openvino(x: Tensor, k: int) -> OpenVino | None:
    """The same as one compiled model."""

    def build(o: Any, maps: Any) -> list[Any]:
        p = o.sigmoid(maps)
        pool = o.max_pool(p, [1, 1], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
        flat = o.reshape(o.multiply(p, o.convert(o.equal(p, pool), "f32")), np.array([x.shape[0], -1]), False)
        return o.topk(flat, np.int64(k), 1, "max", "value").outputs()

    return openvino(build, [x]) if x.is_contiguous() else None


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(("images", "channels", "side"), [(1, 80, 128), (8, 80, 128), (1, 80, 256)])
def bench_heatmap_peaks(compare, device, layout: str, images: int, channels: int, side: int) -> None:
    x = heatmap(images, channels, side, device)
    if layout == "nhwc":
        x = x.contiguous(memory_format=torch.channels_last)

    def agree(ours: Any, theirs: Any, name: str) -> None:
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)

    compare(
        lambda: ops.heatmap_peaks(x, 100),
        {"torch": lambda: peaks_in_torch(x, 100), "openvino": peaks_in_openvino(x, 100)},
        agree=agree,
        bytes=x.numel() * 4,
    )


def keypoints_in_torch(x: Tensor, regression: Tensor, offset: Tensor, cells: Tensor, boxes: Tensor) -> Tensor:
    """CenterNet's decoding as usually written, for one image: the keypoints of the detections in ``cells`` [k]."""
    joints, side = x.shape[1], x.shape[-1]
    p = x.sigmoid()
    scores, at = (p * (F.max_pool2d(p, 3, 1, 1) == p)).flatten(2).topk(100)  # [1, J, 100]
    moves = offset.view(joints, 2, -1).gather(2, at[0, :, None].expand(-1, 2, -1))
    found = torch.stack([at[0] // side, at[0] % side], 1) + moves  # [J, 2, 100]
    start = torch.stack([cells // side, cells % side], 1)[:, None]
    regressed = start + regression.view(joints, 2, -1)[:, :, cells].permute(2, 0, 1)  # [k, J, 2]
    apart = (regressed[..., None] - found).square().sum(2).sqrt()  # [k, J, 100]
    apart = torch.where(scores[0] >= 0.1, apart, torch.inf)
    nearest, which = apart.min(2)
    choice = found.permute(0, 2, 1).gather(1, which.t()[..., None].expand(-1, -1, 2)).transpose(0, 1)
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 8, (boxes[:, 2:] - boxes[:, :2]) * 0.15
    inside = ((choice.flip(-1) - centre[:, None]).abs() <= half[:, None]).all(-1)
    reach = 0.6 * half.amax(1, keepdim=True)
    accepted = inside & (nearest <= reach)
    return torch.where(accepted[..., None], choice, regressed).flip(-1) * 4


def keypoints(side: int, device: torch.device) -> tuple[Tensor, ...]:
    """17 keypoints of 100 detections: cells' rows and columns, heatmaps, regressions, offsets, boxes in pixels."""
    g = torch.Generator().manual_seed(0)
    x = heatmap(1, 17, side, device)
    regression = (torch.randn(1, 34, side, side, generator=g) * 4).to(device)
    offset = torch.rand(1, 34, side, side, generator=g).to(device)
    cells = torch.randperm(side * side, generator=g)[:100].to(device)
    ys, xs = cells // side, cells % side
    half = (torch.rand(100, 2, generator=g) * 60 + 20).to(device)
    centre = torch.stack([xs, ys], 1) * 4.0
    return ys, xs, x, regression, offset, torch.cat([centre - half, centre + half], 1)


@pytest.mark.parametrize("side", [128, 256])
def bench_match_keypoints(compare, device, side: int) -> None:
    """Each contender gets its arguments in the shape it takes: ours a batch of one image."""
    ys, xs, x, regression, offset, boxes = keypoints(side, device)
    cells, batch = ys * side + xs, [t[None] for t in (ys, xs, boxes)]

    def agree(ours: Any, theirs: Any, name: str) -> None:
        assert ((ours[0][0] - theirs).abs() < 1e-2).float().mean() > 0.999

    compare(
        lambda: ops.match_keypoints(batch[0], batch[1], x, regression, offset, batch[2], 4),
        {"torch": lambda: keypoints_in_torch(x, regression, offset, cells, boxes)},
        agree=agree,
        bytes=x.numel() * 4,
    )


@pytest.mark.parametrize("images", [4, 16])
def bench_draw_gaussians(compare, device, images: int) -> None:
    g = torch.Generator().manual_seed(0)
    objects, shape = 20, (images, 80, 128, 128)
    centers = torch.randint(128, (images, objects, 2), generator=g).float().to(device)
    sigmas = (torch.rand(images, objects, generator=g) * 3 + 0.5).to(device)
    classes = torch.randint(80, (images, objects), generator=g).to(device)
    compare(
        lambda: ops.draw_gaussians(shape, centers, sigmas, classes),
        {"torch.zeros of that shape": lambda: torch.zeros(shape, device=device)},
        bytes=4 * images * 80 * 128 * 128,
    )


@pytest.mark.parametrize(("height", "width"), [(480, 640), (1080, 1920)])
def bench_preprocess(compare, device, height: int, width: int) -> None:
    image = torch.randint(256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(
        device
    )
    mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], device=device).view(3, 1, 1)

    def in_torch() -> Tensor:
        x = F.interpolate((image.float() / 255)[None], size=(512, 512), mode="bilinear", align_corners=False)[0]
        return ((x - mean) / std)[None]

    compare(
        lambda: ops.preprocess([image], (512, 512), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        {"torch": in_torch},
        bytes=image.numel() + 4 * 3 * 512 * 512,
    )
