"""The orientation is found in every format, and no block of metadata stands in the way of the pixels."""

from __future__ import annotations

import io
import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pyrcnn import images
from pyrcnn.images import exif

from . import made


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_in_every_format_and_their_size_is_known_from_the_header(
    orientation: int, tmp_path: Path
) -> None:
    for name, content in made.oriented(orientation).items():
        (tmp_path / name).write_bytes(content)
        wanted = made.by_pillow(content)
        assert wanted is not None
        read = images.read(tmp_path / name)
        assert np.array_equal(read.permute(1, 2, 0).numpy(), wanted), name
        assert wanted.shape[:2] == ((30, 20) if orientation > 4 else (20, 30)), name
        for whole in (True, False):
            assert images.check(tmp_path / name, whole) == ((20, 30), orientation > 4), name
        stored = images.read(tmp_path / name, oriented=False)
        assert stored.shape == (3, 20, 30), name
        again = Image.fromarray(stored.permute(1, 2, 0).numpy())
        turned = again.transpose(exif.UPRIGHT[orientation]) if orientation > 1 else again
        assert np.array_equal(np.asarray(turned), wanted), name


def test_any_block_gives_what_pillow_makes_of_it() -> None:
    rng = random.Random(0)
    seen: dict[int, int] = {}
    understood = 0
    for _ in range(4000):
        image = Image.new("L", (2, 1))
        image.info["exif"] = block = made.exif_block(rng)
        found = exif.orientation(image)
        seen[found] = seen.get(found, 0) + 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                wanted = image.getexif().get(made.ORIENTATION, 1)
            except Exception:
                continue
        understood += 1
        assert found == (wanted if wanted in exif.UPRIGHT else 1), block.hex()
    assert understood > 3000
    assert all(seen[orientation] > 50 for orientation in range(1, 9))


def test_random_bytes_are_no_orientation_and_no_error() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        block = rng.choice((b"", b"Exif\0\0", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08")) + rng.randbytes(
            rng.randint(0, 60)
        )
        assert exif.in_block(block) is None or isinstance(exif.in_block(block), int)


def test_odd_blocks_do_not_hide_the_pixels_of_a_jpeg_file(tmp_path: Path) -> None:
    rng = random.Random(2)
    file = tmp_path / "a.jpg"
    pixels = Image.open(io.BytesIO(made.encode("JPEG"))).convert("RGB")
    for _ in range(300):
        block = made.exif_block(rng)
        file.write_bytes(made.jpeg_with(block))
        found = exif.in_block(block) if block.startswith(b"Exif\0\0") else 1
        wanted = pixels.transpose(exif.UPRIGHT[found]) if found in exif.UPRIGHT else pixels
        read = images.read(file)
        assert np.array_equal(read.permute(1, 2, 0).numpy(), np.asarray(wanted)), block.hex()
        (height, width), transposed = images.check(file)
        assert read.shape[1:] == ((width, height) if transposed else (height, width))


@pytest.mark.parametrize(("kind", "value"), [(2, b"72\0\0"), (5, b"\xff\xff\xff\xff"), (7, b"abcd"), (12, b"\0\0\0\0")])
def test_a_tag_of_another_type_does_not_hide_the_orientation(kind: int, value: bytes, tmp_path: Path) -> None:
    orientation = struct.pack("<HHI4s", made.ORIENTATION, 3, 1, b"\6\0\0\0")
    resolution = struct.pack("<HHI4s", 0x011A, kind, 3, value)
    block = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + orientation + resolution + b"\0\0\0\0"
    (tmp_path / "a.jpg").write_bytes(made.jpeg_with(block))
    assert images.read(tmp_path / "a.jpg").shape == (3, 30, 20)


def test_blocks_that_pillow_cannot_read_do_not_hide_the_image(tmp_path: Path) -> None:
    for name, content in {
        "a.png": made.png_with(
            made.chunk(b"tEXt", b"Raw profile type exif\0no hexadecimal digits\n\n\nxyz"), late=False
        ),
        "b.jpg": made.jpeg_with(b"Exif\0\0no TIFF header"),
        "c.jpg": made.jpeg_with(b"MPF\0II*\0\xff\xff\xff\xff"),
        "d.tif": made.encode("TIFF", tiffinfo={34665: 2**31, 34853: 7}),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert images.read(tmp_path / name).shape == (3, 20, 30), name


def test_the_orientation_that_a_caller_sets_is_applied() -> None:
    image = made.IMAGE.copy()
    image.getexif()[made.ORIENTATION] = 8
    wanted = torch.from_numpy(np.asarray(ImageOps.exif_transpose(image)).copy())
    assert torch.equal(images.load_image(image).permute(1, 2, 0), wanted)
