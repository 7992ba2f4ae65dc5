"""Reading, resizing and normalising, against TensorFlow's numbers and Pillow's pictures."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyrcnn import InputError
from pyrcnn.models.preprocess import fit_square, keep_aspect, load_image, load_images, normalize

from .tf_weights import fixture


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


def test_every_kind_of_picture_gives_the_same_tensor(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(array)
    picture.save(tmp_path / "picture.png")
    wanted = torch.from_numpy(array).permute(2, 0, 1)
    for given in (wanted, array, picture, tmp_path / "picture.png", str(tmp_path / "picture.png")):
        assert torch.equal(load_image(given), wanted)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(load_image(array), wanted)
    opaque = np.dstack([array, np.full((5, 7), 255, np.uint8)])
    assert torch.equal(load_image(opaque), wanted)
    assert torch.equal(load_image(Image.fromarray(opaque)), wanted)


def test_grey_pictures_get_three_channels() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    wanted = torch.from_numpy(grey).expand(3, 3, 4)
    for given in (grey, grey[..., None], Image.fromarray(grey)):
        assert torch.equal(load_image(given), wanted)
    assert torch.equal(load_image(Image.fromarray(grey.astype(np.uint16) * 256)), wanted)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(
        load_image(tmp_path / "turned.png").permute(1, 2, 0), torch.from_numpy(np.rot90(array, -1).copy())
    )


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:300])
    (tmp_path / "text.jpg").write_text("not a picture")
    for name in ("cut.jpg", "text.jpg", "absent.jpg"):
        with pytest.raises(InputError, match=name):
            load_image(tmp_path / name)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4, 4), "images must be a list"),
        ("picture.jpg", "images must be a list"),
        ([torch.zeros(4, 4)], r"images must be \[3, H, W\]"),
        ([torch.zeros(3, 0, 4)], "images must not be empty"),
        ([torch.zeros(3, 4, 4, dtype=torch.int64)], "images must be uint8 or floating point"),
        ([np.zeros((4, 4, 2), np.uint8)], "images must be HxWx3"),
        ([None], "images must hold tensors"),
    ],
)
def test_wrong_input_says_what_was_wanted(images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_images(images)
