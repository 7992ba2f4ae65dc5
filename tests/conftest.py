"""Devices, seeds and readable ids shared by all tests."""

from __future__ import annotations

import os

import pytest
import torch


def devices() -> list[str]:
    """The devices to test: PYRCNN_TEST_DEVICE pins one, else the CPU and, where there is one, the GPU."""
    pinned = os.environ.get("PYRCNN_TEST_DEVICE")
    return [pinned] if pinned else ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=devices())
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
