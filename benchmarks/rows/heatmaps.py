"""CenterNet's operators: peaks, keypoints, targets, and the pictures' way into the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyrcnn import ops


def heatmap(images: int, channels: int, side: int, device: torch.device) -> Tensor:
    """Smooth logits, mostly negative, with real maxima."""
    g = torch.Generator().manual_seed(channels)
    coarse = torch.randn(images, channels, side // 4, side // 4, generator=g) * 2 - 5
    fine = F.interpolate(coarse, size=(side, side), mode="bilinear")
    return (fine + 0.05 * torch.randn(fine.shape, generator=g)).to(device)


def peaks_in_torch(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The usual way: sigmoid, 3x3 max-pool, equality, top-k."""
    p = x.sigmoid()
    p = p * (F.max_pool2d(p, 3, 1, 1) == p)
    return p.flatten(1).topk(k)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(("images", "channels", "side"), [(1, 80, 128), (8, 80, 128), (1, 80, 256)])
def bench_heatmap_peaks(duel, device, layout: str, images: int, channels: int, side: int) -> None:
    x = heatmap(images, channels, side, device)
    if layout == "nhwc":
        x = x.contiguous(memory_format=torch.channels_last)

    def agree(ours: Any, theirs: Any, name: str) -> None:
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)

    duel(
        lambda: ops.heatmap_peaks(x, 100),
        {"torch": lambda: peaks_in_torch(x, 100)},
        agree=agree,
        bytes=x.numel() * 4,
    )


@pytest.mark.parametrize("images", [4, 16])
def bench_draw_gaussians(duel, device, images: int) -> None:
    g = torch.Generator().manual_seed(0)
    objects, shape = 20, (images, 80, 128, 128)
    centers = torch.randint(128, (images, objects, 2), generator=g).float().to(device)
    sigmas = (torch.rand(images, objects, generator=g) * 3 + 0.5).to(device)
    classes = torch.randint(80, (images, objects), generator=g).to(device)
    duel(
        lambda: ops.draw_gaussians(shape, centers, sigmas, classes),
        {"torch.zeros of that shape": lambda: torch.zeros(shape, device=device)},
        bytes=4 * images * 80 * 128 * 128,
    )


@pytest.mark.parametrize(("height", "width"), [(480, 640), (1080, 1920)])
def bench_preprocess(duel, device, height: int, width: int) -> None:
    picture = torch.randint(256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(
        device
    )
    mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], device=device).view(3, 1, 1)

    def in_torch() -> Tensor:
        x = F.interpolate((picture.float() / 255)[None], size=(512, 512), mode="bilinear", align_corners=False)[0]
        return ((x - mean) / std)[None]

    duel(
        lambda: ops.preprocess([picture], (512, 512), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        {"torch": in_torch},
        bytes=picture.numel() + 4 * 3 * 512 * 512,
    )
