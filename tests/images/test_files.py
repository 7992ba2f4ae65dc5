"""Any file is read as Pillow reads it or refused with its name and the reason, at once and without a warning."""

from __future__ import annotations

import contextlib
import os
import random
import runpy
import socket
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from torch import Tensor

from pyrcnn import InputError, images

from . import made


@pytest.mark.parametrize("name", made.one_of_each())
def test_every_format_gives_the_pixels_of_pillow(name: str, tmp_path: Path) -> None:
    content = made.one_of_each()[name]
    (tmp_path / name).write_bytes(content)
    wanted = made.by_pillow(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = images.read(tmp_path / name)
        (height, width), transposed = images.check(tmp_path / name)
    assert read.shape[1:] == ((width, height) if transposed else (height, width))
    assert wanted is None or np.array_equal(read.permute(1, 2, 0).numpy(), wanted)
    assert wanted is not None or "16" in name
    assert Path(name).suffix in images.suffixes()


@pytest.mark.filterwarnings("error")
def test_damaged_files_are_refused_by_name_or_read_as_pillow_does(tmp_path: Path) -> None:
    rng = random.Random(0)
    read_some = refused = 0
    for name, content in made.one_of_each().items():
        for number in range(25):
            changed = made.damaged(content, rng)
            file = tmp_path / f"{number}_{name}"
            file.write_bytes(changed)
            wanted = made.by_pillow(changed)
            read, error = attempt(file)
            if read is None:
                refused += 1
                assert error.startswith(f"images: cannot read {file}: ")
                assert "\n" not in error
                assert wanted is None, name
                continue
            read_some += 1
            assert wanted is None or np.array_equal(read.permute(1, 2, 0).numpy(), wanted), name
            (height, width), transposed = images.check(file)
            assert read.shape[1:] == ((width, height) if transposed else (height, width)), name
    assert min(read_some, refused) > 100


def attempt(file: Path) -> tuple[Tensor | None, str]:
    try:
        return images.read(file), ""
    except images.ImageError as error:
        return None, str(error)


def test_nothing_is_printed_about_damaged_files(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    rng = random.Random(3)
    for name in ("lzw.tif", "deflate.tif", "group4.tif"):
        content = made.one_of_each()[name]
        for _ in range(40):
            (tmp_path / name).write_bytes(made.damaged(content, rng))
            with contextlib.suppress(images.ImageError):
                images.read(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "pipe.jpg")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "absent")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "secret.jpg").write_bytes(made.encode("JPEG"))
    (tmp_path / "secret.jpg").chmod(0)
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)  # the name of a socket has at most 107 bytes
        server.bind("socket.jpg")
        for name, reason in {
            "folder.jpg": "it is a folder", "pipe.jpg": "it is a pipe", "link.jpg": "it is a pipe",
            "socket.jpg": "it is a socket", "device.jpg": "it is a device", "circle.jpg": "cannot be opened",
            "nowhere.jpg": "the file is missing", "absent.jpg": "the file is missing", "n" * 300: "cannot be opened",
            "a\0b.jpg": "no file can have this name", "empty.jpg": "not an image", "text.jpg": "not an image",
            "secret.jpg/a.jpg": "cannot be opened",
        }.items():  # fmt: skip
            for function in (images.read, images.check, images.load_image):
                with pytest.raises(images.ImageError, match=reason):
                    function(tmp_path / name)
    if os.geteuid() != 0:
        with pytest.raises(images.ImageError, match="cannot be opened"):
            images.read(tmp_path / "secret.jpg")


def test_a_large_image_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, format in (("a.png", "PNG"), ("a.bmp", "BMP"), ("a.tif", "TIFF"), ("a.jpg", "JPEG"), ("a.ppm", "PPM")):
        (tmp_path / name).write_bytes(made.encode(format))
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
        for limit in (599, 299):  # Pillow warns up to twice its limit, and fails above
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            with pytest.raises(images.ImageError, match=f"too large.* {limit}.*PYRCNN_MAX_PIXELS"):
                images.read(tmp_path / name)
        monkeypatch.undo()
        for limit in (600, None):
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            assert images.read(tmp_path / name).shape == (3, 20, 30)
        monkeypatch.undo()


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_the_limit_is_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # restores it
    monkeypatch.setenv("PYRCNN_MAX_PIXELS", "599")
    runpy.run_module("pyrcnn.images.files")
    assert Image.MAX_IMAGE_PIXELS == 599
    monkeypatch.setenv("PYRCNN_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="PYRCNN_MAX_PIXELS must be a whole number, got 'many'"):
        runpy.run_module("pyrcnn.images.files")


def test_a_file_of_more_bytes_than_an_image_may_have_is_refused_before_it_is_read(tmp_path: Path) -> None:
    for name in ("a.webp", "a.avif", "a.jpg", "cmyk.jpg", "a.png"):
        (tmp_path / name).write_bytes(made.one_of_each()[name][:200] if name in made.one_of_each() else b"RIFF")
        os.truncate(tmp_path / name, 2**40)  # a hole, which takes no space
        for function in (images.read, images.check):
            with pytest.raises(images.ImageError, match="the file is too large: 1099511627776 bytes"):
                function(tmp_path / name)


def test_metadata_of_any_size_are_read_or_refused(tmp_path: Path) -> None:
    long = b"Comment\0\0" + zlib.compress(bytes(2**22))
    (tmp_path / "text.png").write_bytes(made.png_with(made.chunk(b"zTXt", long), late=False))
    with pytest.raises(images.ImageError, match="too large"):
        images.read(tmp_path / "text.png")
    (tmp_path / "profile.jpg").write_bytes(made.encode("JPEG", icc_profile=bytes(10**6)))
    assert images.read(tmp_path / "profile.jpg").shape == (3, 20, 30)


def test_of_several_images_in_a_file_the_first_is_read(tmp_path: Path) -> None:
    others = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    for name, format in (("a.gif", "GIF"), ("a.tif", "TIFF"), ("a.png", "PNG")):
        content = made.encode(format, Image.new("RGB", (30, 20), "lime"), save_all=True, append_images=others)
        (tmp_path / name).write_bytes(content)
        assert images.read(tmp_path / name)[:, 0, 0].tolist() == [0, 255, 0]


def test_warnings_of_other_code_are_shown_as_before(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(made.encode("JPEG"))
    before = list(warnings.filters)
    inside, go_on = threading.Event(), threading.Event()

    def read_slowly() -> None:
        with images.files.errors_of("a.jpg"):
            inside.set()
            go_on.wait()

    thread = threading.Thread(target=read_slowly)
    thread.start()
    inside.wait()
    with pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(images.read, [tmp_path / "a.jpg"] * 20))
    go_on.set()
    thread.join()
    assert warnings.filters == before


def test_files_of_a_folder_are_found_by_every_suffix_that_pillow_reads(tmp_path: Path) -> None:
    names = ["a.jpg", "b.JPEG", "c.jp2", "d.avif", "e.tga", "f.pgm", "g.jfif", "h.ico", "i.Png"]
    for name in [*names, "notes.txt", "j.eps", "k.h5", "l.pdf", "m.mpg", "noname", ".hidden"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images.files_in(tmp_path)] == sorted(names)
