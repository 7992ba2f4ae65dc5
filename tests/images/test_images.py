"""One reader of image files: orientation, colour modes, 16 bits, and errors that name the file."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyrcnn import InputError, images
from pyrcnn.images import load_image, load_images
from pyrcnn.models import preprocess


def test_every_kind_of_image_gives_the_same_tensor(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    image.save(tmp_path / "image.png")
    wanted = torch.from_numpy(array).permute(2, 0, 1)
    for given in (wanted, array, image, tmp_path / "image.png", str(tmp_path / "image.png")):
        assert torch.equal(load_image(given), wanted)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(load_image(array), wanted)
    opaque = np.dstack([array, np.full((5, 7), 255, np.uint8)])
    assert torch.equal(load_image(opaque), wanted)
    assert torch.equal(load_image(Image.fromarray(opaque)), wanted)


def test_grey_images_get_three_channels() -> None:
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


def test_bad_files_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:300])
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("cut.jpg", "text.jpg", "absent.jpg"):
        with pytest.raises(InputError, match=name):
            load_image(tmp_path / name)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4, 4), "images must be a list"),
        ("image.jpg", "images must be a list"),
        ([torch.zeros(4, 4)], r"images must be \[3, H, W\]"),
        ([torch.zeros(3, 0, 4)], "images must not be empty"),
        ([torch.zeros(3, 4, 4, dtype=torch.int64)], "images must be uint8 or floating point"),
        ([np.zeros((4, 4, 2), np.uint8)], "images must be HxWx3"),
        ([np.zeros((4, 4), np.uint16)], "images must be uint8 or floating point"),
        ([np.full((4, 4, 3), "text")], "images must be uint8 or floating point"),
        ([np.full((4, 4, 3), None)], "images must be uint8 or floating point"),
        ([np.zeros((4, 4, 3), "datetime64[s]")], "images must be uint8 or floating point"),
        ([Image.new("RGB", (0, 4))], "images must not be empty"),
        ([None], "images must hold tensors"),
    ],
)
def test_wrong_input_says_what_was_wanted(images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_images(images)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "I;16"])
def test_every_colour_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (7, 5)).save(file)
    image = images.read(file)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 5, 7)


def test_sixteen_bits_are_scaled_in_files_too(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 40000, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert images.read(tmp_path / name)[0].tolist() == [[0, 0, 1, 156, 255]]


def test_check_finds_size_orientation_and_truncation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, exif=exif)
    assert images.check(file) == ((30, 40), True)
    assert images.read(file).shape == (3, 40, 30)
    assert images.read(file, oriented=False).shape == (3, 30, 40)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert images.check(file, whole=False) == ((30, 40), True)
    for read in (images.check, images.read):
        with pytest.raises(images.ImageError, match=r"images: cannot read .*a\.jpg: the file is damaged"):
            read(file)


def test_damaged_exif_data_do_not_hide_the_image(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00no TIFF header")
    assert images.read(tmp_path / "a.jpg").shape == (3, 3, 4)
    assert images.check(tmp_path / "a.jpg") == ((3, 4), False)


def test_errors_carry_path_and_reason_through_pickling(tmp_path: Path) -> None:
    with pytest.raises(images.ImageError) as caught:
        images.read(tmp_path / "none.jpg")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.path, again.reason) == (str(tmp_path / "none.jpg"), "the file is missing")
    assert str(again) == f"images: cannot read {tmp_path / 'none.jpg'}: the file is missing"
    assert isinstance(again, InputError)


def test_models_take_images_by_the_same_reader() -> None:
    assert preprocess.load_image is load_image
    assert preprocess.load_images is load_images
