"""What the commands write replaces neither their inputs nor the files of another run, unless asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pyrcnn import InputError, checkpoints, models, train
from pyrcnn.commands import common
from pyrcnn.commands.detect import command as detect
from pyrcnn.commands.detect.copies import Copies, unique_names
from pyrcnn.commands.detect.sources import Item, Source
from pyrcnn.train import TrainConfig, state
from pyrcnn.train.distributed import World
from pyrcnn.train.loop import Run
from tests.conftest import python
from tests.detector import TinyDetector, dataset
from tests.test_cli import run

NAME = "centernet_mobilenet_v2_fpn_512"
QUICK = TrainConfig(epochs=1, batch_size=2, evaluate_every=0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "m.safetensors"
    checkpoints.save(models.build(NAME, num_classes=2, input_size=64), file)
    return file


def image(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path, None if path.suffix else "PNG")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a model is work, which comes after the checks."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a model was opened")

    for owner, name in ((detect, "open_model"), (common, "load_model"), (checkpoints, "build"), (models, "build")):
        monkeypatch.setattr(owner, name, fail)


# ---- detect ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_the_folder_of_the_images_as_output(suffix: str, monkeypatch, capsys, tmp_path: Path, weights: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("a.jpg", "b.png", "c.webp"):
        image(photos / name)
    (photos / f"c.{suffix}").write_text("not to be read, and not ours")
    before = contents(photos)
    options = ("--out", photos, "--image-format", suffix, "--weights", weights)
    for more in ((), ("--overwrite",)):
        assert run(monkeypatch, "detect", photos / "a.jpg", photos / "b.png", photos / "c.webp", *options, *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "is also read" in line or "exists already" in line
        assert contents(photos) == before
    # Where no name is taken, the copies lie beside the images.
    free = image(photos / "sub/d.webp")
    assert run(monkeypatch, "detect", free, *options) == 0
    assert contents(photos) == before | {
        "sub/d.webp": free.read_bytes(),
        f"d.{suffix}": contents(photos)[f"d.{suffix}"],
    }


@pytest.mark.parametrize("way", ["relative", "link to the folder", "hard link", "upper case"])
def test_other_names_of_an_image_do_not_hide_it(way: str, monkeypatch, capsys, tmp_path: Path, weights: Path) -> None:
    photo, out = image(tmp_path / "photos/a.jpg"), tmp_path / "photos"
    monkeypatch.chdir(tmp_path)
    if way == "relative":
        out = Path("photos/../photos")
    elif way == "link to the folder":
        out = tmp_path / "link"
        out.symlink_to(tmp_path / "photos")
    elif way == "hard link":
        out = tmp_path / "out"
        out.mkdir()
        os.link(photo, out / "a.jpg")
    else:
        photo = image(tmp_path / "photos/A.JPG")
        out = tmp_path / "photos"
        shutil.copy(photo, out / "A.jpg")
    before = photo.read_bytes()
    assert run(monkeypatch, "detect", photo, "--out", out, "--weights", weights) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert photo.read_bytes() == before


def test_two_runs_into_one_folder(monkeypatch, capsys, tmp_path: Path, weights: Path) -> None:
    first, second = image(tmp_path / "1/a.png"), image(tmp_path / "2/a.png", "blue")
    other, out = image(tmp_path / "2/b.png"), tmp_path / "out"
    assert run(monkeypatch, "detect", first, "--out", out, "--weights", weights) == 0
    before = contents(out)
    capsys.readouterr()
    assert run(monkeypatch, "detect", other, second, "--out", out, "--weights", weights) == 2
    shown = capsys.readouterr()
    assert f"out: {out / 'a.jpg'} exists already" in shown.err
    assert "--overwrite" in shown.err
    assert shown.out == ""
    assert contents(out) == before
    assert run(monkeypatch, "detect", other, "--out", out, "--weights", weights) == 0
    assert run(monkeypatch, "detect", second, "--out", out, "--weights", weights, "--overwrite") == 0
    assert contents(out)["a.jpg"] != before["a.jpg"]
    assert run(monkeypatch, "detect", first, "--out", out, "--weights", weights, "--no-draw") == 0


@pytest.mark.usefixtures("no_model")
def test_refusals_come_before_the_work(monkeypatch, capsys, tmp_path: Path, weights: Path) -> None:
    photo, out = image(tmp_path / "a.png"), tmp_path / "out"
    image(out / "a.jpg")
    (tmp_path / "file").touch()
    for arguments in (
        ("detect", photo, "--out", out),
        ("detect", photo, "--out", tmp_path / "file"),
        ("detect", photo, "--out", tmp_path / "file/below"),
        ("detect", photo, "--out", tmp_path / ("x" * 300)),
        ("convert", weights, weights, "--model", NAME),
        ("convert", weights, weights, "--model", NAME, "--overwrite"),
        ("convert", weights, tmp_path / "file/m.safetensors", "--model", NAME),
        ("export", tmp_path / "file/m.pt2", "--weights", weights),
        ("export", out / "a.jpg", "--weights", weights),
    ):
        assert run(monkeypatch, *arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("pyrcnn: out"), line


def test_the_default_folder_is_a_new_one(monkeypatch, capsys, tmp_path: Path, weights: Path) -> None:
    monkeypatch.chdir(tmp_path)
    photo = image(tmp_path / "photos/a.png")
    seen = []
    for _ in range(3):
        assert run(monkeypatch, "detect", photo, "--weights", weights) == 0
        seen.append(capsys.readouterr().out.splitlines()[-1])
    folders = ["pyrcnn-detections", "pyrcnn-detections-2", "pyrcnn-detections-3"]
    assert seen == [f"  annotated image: {folder}/a.jpg" for folder in folders]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", *folders] or set(folders) < set(os.listdir())


def test_each_image_gets_a_copy_of_its_own(monkeypatch, capsys, tmp_path: Path, weights: Path) -> None:
    photos = [
        image(tmp_path / name)
        for name in ("a.png", "a.jpg", "a.webp", "x/a.png", "y/a.png", "A.png", "a-2.png", "b.c.png", "b.c.jpg", ".png")
    ]
    out = tmp_path / "out"
    assert run(monkeypatch, "detect", *photos, "--out", out, "--weights", weights) == 0
    printed = capsys.readouterr().out
    copies = [Path(line.partition(": ")[2]) for line in printed.splitlines() if "annotated image: " in line]
    assert len(set(copies)) == len(photos) == len(list(out.iterdir()))
    assert [c.name for c in copies[:3]] == ["a.jpg", "a-3.jpg", "a-4.jpg"]  # a-2 is an image of this run


def test_names_are_unique_and_fit_a_file_system() -> None:
    assert unique_names(["a", "b"], ".jpg") == ["a.jpg", "b.jpg"]
    assert unique_names(["a", "a", "A", "a-2", "a"], ".png") == ["a.png", "a-3.png", "A-4.png", "a-2.png", "a-5.png"]
    long = unique_names(["x" * 251, "x" * 251, "é" * 127, "\udce9" * 255], ".jpg")
    assert len({name.casefold() for name in long}) == 4
    assert all(len(os.fsencode(name)) <= 255 for name in long)
    many = unique_names(["image"] * 20_000, ".jpg")
    assert len(set(many)) == 20_000


def test_a_long_name_is_detected_and_written(monkeypatch, capsys, tmp_path: Path, weights: Path) -> None:
    photos = [image(tmp_path / ("x" * 251 + suffix)) for suffix in (".png", ".jpg")]
    out = tmp_path / "out"
    assert run(monkeypatch, "detect", *photos, "--out", out, "--weights", weights) == 0
    assert len(list(out.iterdir())) == 2


def test_an_image_too_large_for_jpeg_becomes_a_png(tmp_path: Path) -> None:
    wide, photos = Image.new("RGB", (65501, 1)), [tmp_path / "a.jpg", tmp_path / "b.png"]
    sources = [Source(photo) for photo in photos]
    for overwrite in (False, True):
        copies = Copies(sources, tmp_path / "out", "jpg", overwrite)
        assert copies.write(Item(0, sources[0]), wide) == tmp_path / "out/a.png"
    wide.save(photos[1])
    with pytest.raises(InputError, match="is also read"):
        Copies(sources, tmp_path, "jpg", overwrite=True).write(Item(1, sources[1]), wide)


def test_a_full_disk_ends_the_run_with_whole_files(monkeypatch, capsys, tmp_path: Path, weights: Path) -> None:
    photos = [image(tmp_path / f"{n}.png") for n in range(3)]
    save, out = Image.Image.save, tmp_path / "out"

    def fill(self: Image.Image, file: Any, **options: Any) -> None:
        save(self, file, **options)
        if "1.jpg" in str(file):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fill)
    assert run(monkeypatch, "detect", *photos, "--out", out, "--weights", weights) == 2
    assert f"out: {out / '1.jpg'} cannot be written: No space left on device" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["0.jpg"]


# ---- convert, export, checkpoints.save -------------------------------------------------------------------------------


def test_convert_and_export_replace_a_file_only_if_asked(monkeypatch, capsys, tmp_path: Path, weights: Path) -> None:
    sets = ("--model", NAME, "--set", "num_classes=2")
    for command, file in (
        (("convert", weights), tmp_path / "o.safetensors"),
        (("export",), tmp_path / "o.pt2"),
    ):
        options = sets if command[0] == "convert" else ("--weights", weights)
        file.write_text("mine")
        assert run(monkeypatch, *command, file, *options) == 2
        assert f"out: {file} exists already" in capsys.readouterr().err
        assert file.read_text() == "mine"
        assert run(monkeypatch, *command, file, *options, "--overwrite") == 0
        assert file.stat().st_size > 1000


def test_a_python_function_replaces_the_file_that_it_is_given(tmp_path: Path) -> None:
    model = models.build(NAME, num_classes=1, input_size=64)
    file = tmp_path / "m.safetensors"
    checkpoints.save(model, file)
    checkpoints.save(model, file)
    with pytest.raises(InputError, match=r"file: .*m\.safetensors exists already"):
        checkpoints.save(model, file, overwrite=False)


# ---- train -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", state.FILES)
def test_a_folder_with_a_run_is_not_trained_into(name: str, tmp_path: Path) -> None:
    data, out = dataset(tmp_path), tmp_path / "run"
    out.mkdir()
    (out / name).write_text("another run's")
    with pytest.raises(InputError, match=rf"out must be a folder without a run, got .* with {name}; .*overwrite"):
        train.fit(TinyDetector(), data, None, replace(QUICK, out=str(out)), quiet=True)
    assert contents(out) == {name: b"another run's"}
    (out / "notes.txt").write_text("mine")
    train.fit(TinyDetector(), data, None, replace(QUICK, out=str(out), overwrite=True), quiet=True)
    after = contents(out)
    assert after["notes.txt"] == b"mine"
    assert b"another run's" not in after.values()
    assert set(after) - {*state.ABOUT, "tensorboard"} == {
        "checkpoint.pt",
        "last.safetensors",
        "metrics.jsonl",
        "notes.txt",
    }


def test_a_run_that_another_has_overtaken_stops(tmp_path: Path) -> None:
    data, out = dataset(tmp_path), tmp_path / "run"
    late = Run(TinyDetector(), data, None, replace(QUICK, out=str(out)), True, World(torch.device("cpu")))
    train.fit(TinyDetector(), data, None, replace(QUICK, out=str(out)), quiet=True)
    before = contents(out)
    with pytest.raises(InputError, match="another run began there"):
        late.go()
    assert contents(out) == before


def test_a_run_that_fails_before_its_first_step_leaves_the_folder_free(tmp_path: Path) -> None:
    class Broken(TinyDetector):
        def forward(self, images: Any, targets: Any = None) -> Any:
            raise ZeroDivisionError

    data, config = dataset(tmp_path), replace(QUICK, out=str(tmp_path / "run"))
    with pytest.raises(ZeroDivisionError):
        train.fit(Broken(), data, None, config, quiet=True)
    assert contents(tmp_path / "run") == {}
    train.fit(TinyDetector(), data, None, config, quiet=True)


def test_train_refuses_before_it_reads_the_data(monkeypatch, capsys, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "last.safetensors").write_text("weights")
    data = ("train", NAME, "--images", tmp_path / "no", "--annotations", tmp_path / "no.json", "--out", out)
    for more, message in (
        ((), "with last.safetensors"),
        (("--weights", out / "last.safetensors", "--overwrite"), "is also read"),
        (("--resume",), "there is no"),
    ):
        assert run(monkeypatch, *data, *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert contents(out) == {"last.safetensors": b"weights"}


def test_a_full_disk_in_training_keeps_the_last_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data, out = dataset(tmp_path), tmp_path / "run"
    config = replace(QUICK, out=str(out), epochs=4, checkpoint_minutes=0, log_every=1)
    flush, written = os.fsync, []

    def fill(file: int) -> None:
        written.append(file)
        if len(written) == 5:  # the third checkpoint; each flushes the file and its folder
            raise OSError(28, "No space left on device")
        flush(file)

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(InputError, match=r"out: .*checkpoint\.pt cannot be written: No space left on device"):
        train.fit(TinyDetector(), data, None, config, quiet=True)
    assert set(contents(out)) - {*state.ABOUT, "tensorboard"} == {"checkpoint.pt", "metrics.jsonl"}
    assert torch.load(out / "checkpoint.pt")["step"] == 2
    monkeypatch.setattr(os, "fsync", flush)
    result = train.fit(TinyDetector(), data, None, replace(config, resume=True), quiet=True)
    assert result.steps == 12


def test_a_run_does_not_end_because_nobody_can_read_its_progress(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = replace(QUICK, out=None, log_every=1)
    full = open("/dev/full", "w")  # noqa: SIM115 - closing it fails
    monkeypatch.setattr(sys, "stderr", full)
    assert train.fit(TinyDetector(), dataset(tmp_path), None, config).steps == 3
    with pytest.raises(OSError, match="No space left"):
        full.close()
    monkeypatch.setattr(sys, "stderr", None)
    assert train.fit(TinyDetector(), dataset(tmp_path), None, config).steps == 3


WORKERS = """
import signal
from pathlib import Path
from pyrcnn import train
from tests.detector import TinyDetector, dataset
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1])
    config = train.TrainConfig(
        out=str(folder / "run"), epochs=100_000, batch_size=2, accumulate=3, workers=2, log_every=1, evaluate_every=0,
        checkpoint_minutes=60,
    )
    try:
        train.fit(TinyDetector(), dataset(folder), None, config)
    except KeyboardInterrupt as error:
        print(error)
"""


def test_ctrl_c_reaches_the_workers_too_and_the_step_is_finished(tmp_path: Path) -> None:
    code, folder = python(WORKERS, tmp_path)
    process = subprocess.Popen(code, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)  # fmt: skip
    assert process.stderr is not None
    assert any(line.startswith("step") for line in process.stderr)
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert out.startswith("stopped after step"), error
    assert "Traceback" not in error
    assert set(contents(tmp_path / "run")) - {*state.ABOUT, "tensorboard"} == {"checkpoint.pt", "metrics.jsonl"}


def test_a_log_that_cannot_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pyrcnn.train import progress

    full = open("/dev/full", "ab", buffering=0)  # noqa: SIM115 - the log closes it
    monkeypatch.setattr(progress, "_opened", lambda path, new: full)
    config = replace(QUICK, out=str(tmp_path / "run"), log_every=1)
    with pytest.raises(InputError, match=r"metrics\.jsonl cannot be written: No space left"):
        train.fit(TinyDetector(), dataset(tmp_path), None, config, quiet=True)
