"""Resizing and normalising, against TensorFlow's numbers."""

from __future__ import annotations

import pytest
import torch

from pyrcnn import InputError
from pyrcnn.models.preprocess import fit_square, keep_aspect, normalize

from .parity.tf_weights import fixture


@pytest.mark.parametrize("index", [0, 1, 3, 4, 5])
def test_resize_is_tensorflows_to_the_bit(index: int) -> None:
    stored = fixture("ops_preprocess")
    image = torch.from_numpy(stored[f"img{index}"]).permute(2, 0, 1)
    wanted = torch.from_numpy(stored[f"resized{index}"]).permute(2, 0, 1)[None]
    for convention in ("raw", "unit", "caffe", "extremenet"):
        pixels, sizes, scales = fit_square([image], 64, convention)
        assert torch.equal(pixels, normalize(wanted, convention)), convention
    assert sizes[0].tolist() == stored[f"shape{index}"][:2].tolist()
    assert torch.allclose(scales[0] * torch.tensor(image.shape[1:]), sizes[0].float())


def test_sizes_round_as_tensorflow_rounds() -> None:
    stored = fixture("ops_preprocess")
    for index in range(10):
        key = f"size{index}"
        height, width = stored[key] if key in stored else stored[f"img{index}"].shape[:2]
        for size in (512, 1024):
            assert list(keep_aspect(height, width, size)) == stored[f"shape{size}_{index}"][:2].tolist()


@pytest.mark.parametrize(
    ("convention", "model"),
    [("unit", "mbv2_od"), ("caffe", "r50v1fpn"), ("unit", "r50v2"), ("extremenet", "hg104tiny_kpts")],
)
def test_normalisation_is_tensorflows_to_the_bit(convention: str, model: str) -> None:
    stored = fixture("ops_preprocess")
    pixels = torch.from_numpy(stored["resized0"]).permute(2, 0, 1)[None]
    assert torch.equal(normalize(pixels, convention).permute(0, 2, 3, 1), torch.from_numpy(stored[f"norm:{model}"]))


def test_imagenet_normalisation_centres_the_mean_colour() -> None:
    mean = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None] * 255
    assert normalize(mean, "imagenet").abs().max() < 1e-6


def test_unknown_normalisation_is_named() -> None:
    with pytest.raises(InputError, match="normalization must be one of"):
        normalize(torch.zeros(1, 3, 2, 2), "none")
