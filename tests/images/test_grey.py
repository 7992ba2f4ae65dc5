"""Grey images of more than 8 bits give the pixels of the 8-bit image, from files and from memory."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyrcnn import images

from . import made

GREY = made.PIXELS[..., 0].copy()
GREY[0, :2] = 0, 255
WANTED = torch.from_numpy(GREY).expand(3, -1, -1)

SIXTEEN = GREY.astype(np.uint16) * 257
FLOATS = {
    "unit": (GREY / 255).astype(np.float32),
    "bytes": GREY.astype(np.float32),
    "sixteen bits": SIXTEEN.astype(np.float32),
}


@pytest.mark.parametrize(
    ("format", "image"),
    [
        ("PNG", Image.fromarray(SIXTEEN)),
        ("TIFF", Image.fromarray(SIXTEEN)),
        ("TIFF", Image.fromarray(SIXTEEN.astype(">u2"))),
        ("TIFF", Image.fromarray(SIXTEEN.astype(np.int32))),
        ("TIFF", Image.fromarray(GREY.astype(np.int32))),
        ("PPM", Image.fromarray(SIXTEEN.astype(np.int32))),
        *[("TIFF", Image.fromarray(values)) for values in FLOATS.values()],
        ("PPM", Image.fromarray(FLOATS["bytes"])),
    ],
)
def test_files_give_the_pixels_of_the_8_bit_image(format: str, image: Image.Image, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(made.encode(format, image))
    assert torch.equal(images.read(file), WANTED)
    assert torch.equal(images.load_image(str(file)), WANTED)
    assert torch.equal(images.load_image(image), WANTED)


def test_a_dark_file_of_16_bits_stays_dark(tmp_path: Path) -> None:
    for name, content in {
        "a.png": made.encode("PNG", Image.fromarray((GREY // 64).astype(np.uint16) * 257)),
        "a.pgm": made.encode("PPM", Image.fromarray((GREY // 64).astype(np.int32) * 257)),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert torch.equal(images.read(tmp_path / name), WANTED // 64)


def test_twelve_bits_and_white_as_zero(tmp_path: Path) -> None:
    """A TIFF file of 12 bits is scaled by 4095; one whose zero is white is inverted."""
    values = GREY[:, :30].astype(np.uint16) * 16
    packed = np.stack(
        [values[:, ::2] >> 4, (values[:, ::2] & 15) << 4 | values[:, 1::2] >> 8, values[:, 1::2] & 255], -1
    )
    plain = Image.open(io.BytesIO(made.encode("TIFF", Image.fromarray(SIXTEEN))))
    for bits, photometric, data in ((12, 1, packed.astype(np.uint8)), (16, 0, 65535 - SIXTEEN)):
        tags = dict(plain.tag_v2)
        tags.update({258: bits, 262: photometric, 273: 8 + 2 + 12 * 8 + 4, 279: data.nbytes})
        kept = sorted((256, 257, 258, 259, 262, 273, 277, 279))
        tags |= {256: 30, 257: 20, 259: 1, 277: 1}
        content = b"II*\0" + (8).to_bytes(4, "little") + len(kept).to_bytes(2, "little")
        for tag in kept:
            content += tag.to_bytes(2, "little") + b"\4\0" + (1).to_bytes(4, "little") + tags[tag].to_bytes(4, "little")
        (tmp_path / "a.tif").write_bytes(content + bytes(4) + data.tobytes())
        assert torch.equal(images.read(tmp_path / "a.tif"), WANTED), bits


@pytest.mark.filterwarnings("error")
def test_values_of_any_range_are_scaled_without_a_warning() -> None:
    floats = np.array([[np.nan, -np.inf, -5, 0, 0.5, 1, np.inf]], dtype=np.float32)
    assert images.load_image(Image.fromarray(floats))[0].tolist() == [[0, 0, 0, 0, 128, 255, 255]]
    large = np.array([[-7, 0, 600_000, 1_000_000]], dtype=np.int32)
    assert images.load_image(Image.fromarray(large))[0].tolist() == [[0, 0, 153, 255]]
    assert images.load_image(Image.fromarray(large.astype(np.float32)))[0].tolist() == [[0, 0, 153, 255]]
    assert images.load_image(Image.new("F", (3, 2))).unique().tolist() == [0]
    assert images.load_image(Image.fromarray(np.full((2, 3), np.nan, np.float32))).unique().tolist() == [0]


def test_deep_grey_images_are_turned_upright(tmp_path: Path) -> None:
    Image.fromarray(SIXTEEN).save(tmp_path / "a.png", exif=made.exif(6))
    assert torch.equal(images.read(tmp_path / "a.png"), WANTED.rot90(-1, (1, 2)))
