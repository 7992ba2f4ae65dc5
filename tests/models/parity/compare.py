"""Comparing our detections and gradients with another library's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pyrcnn import Detections


def assert_same(found: Detections, boxes: Tensor, scores: Tensor, labels: Tensor) -> None:
    """Boxes within 0.01 px, scores within 1e-4; ranks may change places only where scores differ by less than that."""
    assert len(found) == len(labels)
    torch.testing.assert_close(found.scores, scores, rtol=0, atol=1e-4)
    free = torch.ones(len(labels), dtype=torch.bool)
    for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
        near = free & (labels == label) & ((scores - score).abs() < 1e-4)
        distance = torch.where(near, (boxes - box).abs().amax(1), torch.inf)
        assert distance.min() <= 0.01, (box, score, label)
        free[distance.argmin()] = False


def assert_learns_the_same(
    model: nn.Module, losses: Mapping[str, Tensor], stored: Mapping[str, np.ndarray], gradients: Mapping[str, Any]
) -> None:
    """Losses within 1e-4 of each, the same parameters with gradients, and norms of these within 5e-3.

    The statistics of a batch of two images, where they are learnt from, amplify rounding errors.
    """
    assert len(losses) == 4
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(float(stored[name]), rel=1e-4, abs=0), name
    torch.stack(list(losses.values())).sum().backward()
    ours = {name: p.grad.double().norm().item() for name, p in model.named_parameters() if p.grad is not None}
    assert ours.keys() == gradients.keys()  # the same stages are frozen
    for name, norm in ours.items():
        assert norm == pytest.approx(float(gradients[name]), rel=5e-3), name
