"""``pyrcnn train``: continuing from the folder alone, previews, and the last lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pyrcnn import models
from pyrcnn.train import state
from tests.detector import dataset
from tests.test_cli import NAME, run


def options(tmp_path: Path, *sets: str) -> list[Any]:
    dataset(tmp_path)
    annotations = tmp_path / "annotations.json"
    given = ("input_size=64", "batch_size=2", "epochs=1", "log_every=1", *sets)
    return [NAME, "--images", tmp_path / "images", "--annotations", annotations, "--val-annotations", annotations,
            *(v for s in given for v in ("--set", s))]  # fmt: skip


def test_the_folder_alone_continues_a_run(monkeypatch, capsys, tmp_path: Path) -> None:
    """Two epochs, and one epoch continued for another: the first continued run ends as the second began."""
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "train", *options(tmp_path), "--out", "run") == 0
    printed = capsys.readouterr().out
    assert "run/best.safetensors" in printed
    assert "pyrcnn train run --resume --set epochs=2" in printed
    assert printed.splitlines()[-1].startswith("next: pyrcnn detect --weights run/")
    before = json.loads((tmp_path / "run/config.json").read_text())
    assert before["start"] == {"model": NAME, "weights": "random", "files": []}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(monkeypatch, "train", "--resume", "../run", "--set", "epochs=2") == 0
    shown = capsys.readouterr()
    assert "2 epochs instead of 1: its schedule continues" in shown.err
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 6
    after = json.loads((tmp_path / "run/config.json").read_text())
    assert after["settings"]["epochs"] == 2
    assert len(after["resumed"]) == 1
    assert {k: after[k] for k in ("begun", "start", "sources", "data")} == {
        k: before[k] for k in ("begun", "start", "sources", "data")
    }
    assert run(monkeypatch, "train", tmp_path / "run", "--resume") == 0  # it has ended: nothing changes
    assert models.load(tmp_path / "run/last.safetensors").classes == ["cell", "disc"]


def test_continuing_as_begun_gives_the_same_weights(monkeypatch, tmp_path: Path) -> None:
    """A run that is stopped after a step and continued from its folder ends as one that was not stopped."""
    name, images, folder, learn, annotations, _, _, *sets = options(tmp_path, "checkpoint_minutes=0")
    given = [name, images, folder, learn, annotations, *sets]
    assert run(monkeypatch, "train", *given, "--out", tmp_path / "a") == 0
    write = state.write

    def stop(path: Path, content: dict[str, Any]) -> None:
        write(path, content)
        if content["step"] == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(state, "write", stop)
        assert run(patched, "train", *given, "--out", tmp_path / "b") == 130
    assert run(monkeypatch, "train", "--resume", tmp_path / "b") == 0
    a, b = (models.load(tmp_path / name / "last.safetensors").state_dict() for name in "ab")
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_folders_that_cannot_be_continued(monkeypatch, capsys, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for content, message in ((None, "No such file"), ("{", "damaged"), ("{}", "does not know")):
        if content is not None:
            (folder / "config.json").write_text(content)
        assert run(monkeypatch, "train", folder, "--resume") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("pyrcnn: resume must name the folder of a run")
        assert message in line


def test_preview(monkeypatch, capsys, tmp_path: Path) -> None:
    given = ("train", *options(tmp_path), "--out", tmp_path / "run", "--preview")
    assert run(monkeypatch, *given) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "run/preview.jpg")]
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["preview.jpg"]
    assert run(monkeypatch, *given) == 2
    assert "preview.jpg exists already" in capsys.readouterr().err
    assert run(monkeypatch, *given, "--overwrite") == 0
