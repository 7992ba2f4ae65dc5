"""Colour transforms against plain loops in float64 with Python's colorsys."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyrcnn import data
from tests.reference import transforms as oracle

from . import painted_image, run


def colourful(height: int = 9, width: int = 13) -> torch.Tensor:
    """Random colours, with greys, black, white and pure colours among them."""
    image = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    image[:, 0, :5] = torch.tensor([0, 60, 128, 200, 255], dtype=torch.uint8)
    image[:, 1, :6] = 0
    for channel in range(3):
        image[channel, 1, channel] = 255
        image[channel, 1, 3 + channel] = 130
        image[(channel + 1) % 3, 1, 3 + channel] = 130
    return image


def draws(seed: int, *ranges: tuple[float, float]) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    return [low + (high - low) * torch.rand((), generator=generator).item() for low, high in ranges]


def close(got: torch.Tensor, wanted: list) -> None:
    """Equal but for rounding of values that float32 and float64 put on either side of a half."""
    difference = np.abs(got.numpy().astype(int) - np.array(wanted))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("seed", range(6))
def test_tensorflows_colours(seed: int) -> None:
    image, (_, targets) = colourful(), painted_image()
    changed, kept = run(data.ColorJitterTF(), image, targets, seed)
    hue, contrast, saturation, brightness = draws(seed, (-0.02, 0.02), (0.8, 1.25), (0.8, 1.25), (-0.2, 0.2))
    close(changed, oracle.tensorflow_colours(image.tolist(), hue, contrast, saturation, brightness))
    assert kept is targets


@pytest.mark.parametrize("seed", range(6))
def test_hue(seed: int) -> None:
    image, (_, targets) = colourful(), painted_image()
    changed, kept = run(data.ColorJitter(0, 0, 0, 0.5), image, targets, seed)
    shift = draws(seed, (0, 0), (0, 0), (0, 0), (-0.5, 0.5))[3]
    close(changed, oracle.recolour(image.tolist(), lambda r, g, b: oracle.turn_hue(r, g, b, shift)))
    assert kept is targets
    assert torch.equal(changed[:, 0, :5], image[:, 0, :5])  # greys have no hue


@pytest.mark.parametrize("seed", range(4))
def test_lighting(seed: int) -> None:
    image, (_, targets) = colourful(), painted_image()
    changed, kept = run(data.LightingNoise(0.5), image, targets, seed)
    amounts = (0.5 * torch.randn(3, generator=torch.Generator().manual_seed(seed)).double()).tolist()
    # AlexNet's components in RGB, as CenterNet rounds them, which lists them for BGR
    bgr = [[-0.58752847, -0.69563484, 0.41340352], [-0.5832747, 0.00994535, -0.81221408],
           [-0.56089297, 0.71832671, 0.41158938]]  # fmt: skip
    values = [0.2141788, 0.01817699, 0.00341571]
    added = [sum(bgr[2 - c][i] * values[i] * amounts[i] for i in range(3)) for c in range(3)]
    close(changed, oracle.recolour(image.tolist(), lambda *rgb: [rgb[c] + added[c] for c in range(3)]))
    assert kept is targets
    assert not torch.equal(changed, image)


def test_components_are_orthonormal() -> None:
    matrix = torch.tensor(data.transforms.colors.COMPONENTS, dtype=torch.float64)
    assert torch.allclose(matrix.T @ matrix, torch.eye(3, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_patch_of_noise(seed: int) -> None:
    image, targets = torch.full((3, 40, 50), 128, dtype=torch.uint8), painted_image()[1]
    changed, kept = run(data.PatchGaussian(6, 20), image, targets, seed)
    generator = torch.Generator().manual_seed(seed)
    side = int(torch.randint(6, 20, (), generator=generator))
    deviation = torch.rand((), generator=generator).item()
    y, x = int(torch.randint(0, 40, (), generator=generator)), int(torch.randint(0, 50, (), generator=generator))
    outside = torch.ones(40, 50, dtype=torch.bool)
    for row in range(40):
        for column in range(50):
            if y - side // 2 <= row < y - side // 2 + side and x - side // 2 <= column < x - side // 2 + side:
                outside[row, column] = False
    assert (changed[:, outside] == 128).all()
    noise = changed[:, ~outside].double() - 128
    small = min(deviation, 0.25)  # beyond, most of the noise is clipped
    assert noise.std() > 0.6 * 255 * small
    assert kept is targets
    assert (image == 128).all()


def test_no_change_of_colours_is_the_identity() -> None:
    image, targets = colourful(), painted_image()[1]
    for same in (data.ColorJitterTF(0, (1, 1), (1, 1), 0), data.ColorJitter(0, 0, 0), data.ColorJitter(0, 0, 0, 1e-9)):
        changed, _ = run(same, image, targets, 0)
        assert (changed.int() - image.int()).abs().max() <= 1
