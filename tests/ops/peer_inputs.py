"""Inputs for which other libraries' results are stored (``tests/fixtures/ops_peers.npz``).

All inputs are drawn from integers by a fixed rule, so that every version of every library sees the same bits; the file
holds the results only. ``tests/fixtures/make_ops_peers.py`` wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).parents[1] / "fixtures" / "ops_peers.npz"
MODES = (("half_pixel", True), ("output_half_pixel", False))  # ONNX's name for `aligned`
RATIOS, BINS, SCALE = (0, 2), (5, 4), 1 / 16


def integers(seed: int, below: int, *shape: int) -> Tensor:
    """Return int64 numbers from 0 to ``below`` - 1: SplitMix64 of seed, seed + 1, …"""
    with np.errstate(over="ignore"):
        z = (np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return torch.from_numpy((z >> np.uint64(11)).astype(np.int64) % below).reshape(shape)


@dataclass(frozen=True)
class Suppression:
    """One call of ``nms``, or of ``batched_nms`` if there are categories."""

    name: str
    boxes: Tensor
    scores: Tensor
    threshold: float
    idxs: Tensor | None = None


def _sized(seed: int, count: int, extent: int, low: int, high: int) -> Tensor:
    corner, size = integers(seed, extent, count, 2), integers(seed + 1, high - low, count, 2) + low
    return torch.cat([corner, corner + size], 1) / 8


def suppressions() -> Iterator[Suppression]:
    """Yield random, tied, degenerate and empty boxes with random, few and equal scores, and 100,000 boxes at once.

    The thresholds are numbers that float32 holds, so that no pair can lie between a threshold and its rounding.
    """
    families = {
        "random": _sized(1, 400, 8000, 8, 3000),
        "tied": _sized(3, 400, 7, 1, 6) * 8,
        "degenerate": integers(5, 9, 400, 4).double() - 3,
        "one": _sized(7, 1, 80, 1, 60),
        "none": torch.zeros(0, 4),
    }
    for family, boxes in families.items():
        scores = {
            "random": (integers(9, 1 << 20, len(boxes)) + 1) / (1 << 20),
            "few": integers(10, 5, len(boxes)) / 8 - 0.25,
            "equal": torch.full((len(boxes),), 0.5),
        }
        for kind, values in scores.items():
            for threshold in (0.0, 0.25, 0.5, 0.75, 1.0):
                yield Suppression(f"{family}/{kind}/{threshold}", boxes.double(), values.double(), threshold)
    many = integers(11, 1 << 22, 100_000) / (1 << 22)
    yield Suppression("many", _sized(12, 100_000, 65536, 2400, 4800).float(), many.float(), 0.5)
    for pixels, classes in ((20_000, 80), (100_000, 1200)):
        objects = _sized(14, 2000, 8 * pixels - 800, 240, 800)
        boxes = objects.repeat(5, 1) + (integers(16, 161, 10_000, 4) - 80) / 32
        own = integers(17, classes, 2000).repeat(5)
        stray = integers(18, classes, 10_000)
        idxs = torch.where(integers(19, 4, 10_000) > 0, own, stray)
        yield Suppression(f"{pixels} px, {classes}", boxes.float(), many[:10_000].float(), 0.5, idxs)


def regions() -> tuple[Tensor, Tensor]:
    """Return features [2, 3, 24, 30] and RoIs [24, 5]: inside, across and outside the image, tiny, empty, inverted."""
    features = (integers(21, 4096, 2, 3, 24, 30) - 2048) / 1024
    corner = integers(22, 8 * 560, 24, 2) / 8 - 60
    boxes = torch.cat([corner, corner + integers(23, 8 * 300, 24, 2) / 8], 1)
    boxes[:5] = torch.tensor(
        [[0.0, 0, 480, 384], [10, 10, 10, 10], [50, 50, 20, 20], [479, 383, 480, 384], [-16, -16, 8, 8]]
    )
    return features.float(), torch.cat([integers(24, 2, 24, 1).float(), boxes.float()], 1)
