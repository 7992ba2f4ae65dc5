"""``pyrcnn detect`` over folders: what it takes, what it skips, and that nothing stops it but the user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pyrcnn import Detections, InputError, cli, images, inference
from tests.conftest import python

from . import made


class Finds(nn.Module):
    """Finds nothing, and notes the sizes of the images of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[tuple[int, int]]] = []

    def forward(self, batch: list[Tensor]) -> list[Detections]:
        self.calls.append([(image.shape[1], image.shape[2]) for image in batch])
        empty = torch.zeros(0)
        return [Detections(empty.view(0, 4), empty, empty.long()) for _ in batch]


def detect(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["pyrcnn", "detect", *map(str, arguments), "--plain"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, format in {"a.jpg": "JPEG", "b.tif": "TIFF", "c.PNG": "PNG", "d.ppm": "PPM"}.items():
        (folder / name).write_bytes(made.encode(format))
    return folder


def test_what_is_no_image_is_skipped_with_one_line(monkeypatch, capsys, tmp_path: Path, folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    (folder / "more").mkdir()
    (folder / ".hidden").mkdir()
    (folder / ".hidden/a.jpg").write_text("not looked at")
    assert detect(monkeypatch, folder, "--out", tmp_path / "out") == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [f"pyrcnn: {folder}: skipped 1 that is no image or video by name"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_bad_files_are_named_at_once_and_the_others_are_done(monkeypatch, capsys, tmp_path: Path, folder: Path) -> None:
    os.mkfifo(folder / "aa.jpg")
    content = (folder / "a.jpg").read_bytes()
    (folder / "ab.jpg").write_bytes(content[: len(content) // 2])
    (folder / "ac.gif").write_text("no image")
    (folder / "ad.png").symlink_to("/dev/zero")
    assert detect(monkeypatch, folder, "--out", tmp_path / "out") == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4
    for name, reason in {"aa.jpg": "pipe", "ab.jpg": "damaged", "ac.gif": "not an image", "ad.png": "device"}.items():
        assert any(str(folder / name) in line and reason in line for line in errors)
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_one_pipe_alone_is_refused(monkeypatch, capsys, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert detect(monkeypatch, tmp_path / "a.jpg", "--out", tmp_path / "out") == 2
    assert "a.jpg: it is a pipe, not a file" in capsys.readouterr().err


def test_images_of_any_shape_pass(monkeypatch, tmp_path: Path) -> None:
    sizes = {"pixel": (1, 1), "row": (900, 1), "column": (1, 900), "strip": (65600, 2)}
    for name, size in sizes.items():
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    assert detect(monkeypatch, tmp_path, "--out", tmp_path / "out") == 0
    for name, size in sizes.items():
        suffix = "png" if name == "strip" else "jpg"  # JPEG cannot be so wide
        with Image.open(tmp_path / "out" / f"{name}.{suffix}") as annotated:
            assert annotated.size == size


def test_large_images_are_not_read_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_BYTES", 3 * 100 * 100 * 3)
    read: list[int] = []

    def square(side: int) -> Tensor:
        read.append(side)
        return torch.zeros(3, side, side, dtype=torch.uint8)

    model = Finds()
    steps = inference.detect(model, [100] * 30, square)
    next(steps)
    time.sleep(0.2)
    assert len(read) < 14  # those of a call, those decoded ahead, and two per reader
    assert len(list(steps)) == 29
    assert max(map(len, model.calls)) <= 4
    monkeypatch.setattr(inference, "_BYTES", 1)
    model = Finds()
    assert len(list(inference.detect(model, [100] * 5, square))) == 5
    assert max(map(len, model.calls)) == 1


def test_models_and_folders_read_alike(tmp_path: Path) -> None:
    model = Finds()
    for name, content in made.one_of_each().items():
        (tmp_path / name).write_bytes(content)
    paths = images.files_in(tmp_path)
    for path, image, found in inference.detect(model, paths, images.read):
        assert not isinstance(found, InputError)
        assert torch.equal(images.load_image(path), image)
    assert sum(map(len, model.calls)) == len(paths) == len(made.one_of_each())


def test_an_interrupted_run_leaves_whole_files_only(tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    content = made.encode("PNG", Image.new("RGB", (64, 48)))
    for number in range(1000):
        (folder / f"{number}.png").write_bytes(content)
    command, working = python(
        "from pyrcnn import cli; cli.main()",
        "detect",
        folder,
        "--out",
        out,
        "--threads",
        1,
        "--image-format",
        "png",
        "--plain",
    )
    run = subprocess.Popen(command, cwd=working, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (out.exists() and list(out.glob("[0-9]*.png"))):
        assert run.poll() is None
        time.sleep(0.02)
    time.sleep(0.15)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode in (130, -signal.SIGINT)
    assert b"Traceback" not in errors
    written = list(out.iterdir())
    assert 0 < len(written) < 1000
    for file in written:
        assert file.suffix == ".png"
        assert not file.name.startswith(".")
        images.read(file)
