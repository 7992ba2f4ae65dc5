"""``check`` reads headers: it decodes no pixels of a whole file, and finds files that are cut off."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from PIL import Image, ImageFile, features

from pyrcnn import images
from pyrcnn.images.jpeg import plain_size

from . import made

HEADERS = [
    name
    for name in made.one_of_each()
    if name.endswith((".jpg", ".mpo", ".png", ".gif", ".tif", ".webp", ".avif", ".bmp", ".ppm"))
    and not name.startswith("late")
]


@pytest.mark.parametrize("name", HEADERS)
def test_pixels_of_whole_files_are_not_decoded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(made.one_of_each()[name])
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    assert images.check(tmp_path / name)[0] == (20, 30)


@pytest.mark.parametrize("name", made.one_of_each())
def test_cut_files_are_found(name: str, tmp_path: Path) -> None:
    content = made.one_of_each()[name]
    for part in (0.3, 0.5, 0.9):
        (tmp_path / name).write_bytes(content[: int(len(content) * part)])
        try:
            read = images.read(tmp_path / name)
        except images.ImageError:
            with pytest.raises(images.ImageError, match=r"damaged|not an image"):
                images.check(tmp_path / name)
        else:  # what is missing are only later images or marks
            assert images.check(tmp_path / name)[0] in (read.shape[1:], read.shape[:0:-1])


def test_a_png_file_of_many_chunks_is_not_walked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = made.encode("PNG")
    at = content.index(b"IDAT")
    (size,) = struct.unpack(">L", content[at - 4 : at])
    data = content[at + 4 : at + 4 + size]
    pieces = b"".join(made.chunk(b"IDAT", data[i : i + 7]) for i in range(0, size, 7))
    file = tmp_path / "a.png"
    file.write_bytes(content[: at - 4] + pieces + content[at + 8 + size :])
    monkeypatch.setattr(images.header, "_TAIL", 100)
    assert images.check(file) == ((20, 30), False)
    late = made.chunk(b"eXIf", made.exif(6).tobytes().removeprefix(b"Exif\0\0"))
    file.write_bytes(file.read_bytes()[:-12] + late + made.chunk(b"IEND", b""))
    assert images.check(file) == ((20, 30), True)
    assert images.read(file).shape == (3, 30, 20)


def test_a_file_with_data_behind_its_end_is_whole(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.gif", "a.bmp"):
        (tmp_path / name).write_bytes(made.one_of_each()[name] + b"more" * 1000)
        assert images.check(tmp_path / name)[0] == (20, 30)


@pytest.mark.skipif(not features.check("webp"), reason="Pillow has no WebP")
def test_recorded_sizes_are_those_of_the_pixels_of_icons(tmp_path: Path) -> None:
    (tmp_path / "a.ico").write_bytes(made.encode("ICO", sizes=[(16, 16), (20, 12)]))
    assert images.check(tmp_path / "a.ico")[0] == images.read(tmp_path / "a.ico").shape[1:]


@pytest.mark.parametrize("name", sorted(made.one_of_each()))
def test_the_short_way_says_what_pillow_says(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(made.one_of_each()[name])
    size = plain_size(tmp_path / name)
    assert size is not None or name not in ("progressive.jpg", "grey.jpg")
    with Image.open(tmp_path / name) as image:
        assert size in (None, image.size[::-1])
        assert size is None or (image.format == "JPEG" and not image.getexif())


def test_the_short_way_leaves_what_is_not_ordinary_to_pillow(tmp_path: Path) -> None:
    whole = made.encode("JPEG")
    (tmp_path / "a.jpg").write_bytes(whole)
    assert plain_size(tmp_path / "a.jpg") == (20, 30)
    frame, table = whole.index(b"\xff\xc0"), whole.index(b"\xff\xdb")
    hostile = {
        "cut": whole[:-40], "no frame": whole[:frame] + whole[frame + 19 :], "two": whole[:frame] + whole[frame:] * 2,
        "height": whole[: frame + 5] + b"\0\0" + whole[frame + 7 :], "no table": b"\xff\xd8" + whole[frame:],
        "length": whole[: table + 2] + b"\0\0" + whole[table + 4 :],
        "bits": whole[: frame + 4] + b"\x0c" + whole[frame + 5 :],
        "wide": whole[: frame + 5] + b"\xff\xff\xff\xff" + whole[frame + 9 :],
        "app1": whole[:2] + b"\xff\xe1\0\x08Exif\0\0" + whole[2:],
        "mpf": whole[:2] + b"\xff\xe2\0\x06MPF\0" + whole[2:],
        "junk": whole[:2] + b"\0" + whole[2:], "png": made.encode("PNG"), "empty": b"",
    }  # fmt: skip
    for name, content in hostile.items():
        (tmp_path / name).write_bytes(content)
        assert plain_size(tmp_path / name) is None or name == "two", name
    assert plain_size(tmp_path / "none") is plain_size(tmp_path) is plain_size("/dev/zero") is plain_size("a\0") is None
