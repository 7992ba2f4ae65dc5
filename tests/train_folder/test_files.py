"""The files of a run, its callbacks, and what of it the terminal shows."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pyrcnn import InputError, __version__, checkpoints, data, environment, train
from pyrcnn.train import TrainConfig, run_folder, state
from pyrcnn.train.run_folder import contact_sheet
from tests.detector import TinyDetector, dataset

QUICK = TrainConfig(epochs=4, batch_size=2, learning_rate=0.01, log_every=2, checkpoint_minutes=60)


def fit(folder: Path, d: Any, config: TrainConfig = QUICK, **options: Any) -> train.Result:
    torch.manual_seed(7)
    return train.fit(TinyDetector(), d, d, replace(config, out=str(folder)), quiet=True, **options)


def test_the_folder_tells_about_the_run(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    fit(tmp_path / "run", d, about={"start": {"weights": "random"}})
    found = json.loads((tmp_path / "run/config.json").read_text())
    assert found["settings"]["epochs"] == 4
    assert found["settings"]["augment"] == [repr(data.HorizontalFlip())]
    assert found["environment"] == environment.describe()
    assert found["environment"]["pyrcnn"] == __version__
    assert found["data"]["train"] == found["data"]["val"]
    assert found["data"]["train"] == {"images": 6, "source": str(tmp_path / "annotations.json"),
                                      "objects": {"cell": 6, "disc": 6}}  # fmt: skip
    assert found["model"]["classes"] == ["cell", "disc"]
    assert found["start"] == {"weights": "random"}
    assert found["parameters"] == sum(p.numel() for p in TinyDetector().parameters())
    assert run_folder.settings_of(found, tmp_path) == replace(QUICK, out=str(tmp_path / "run"))


def test_the_table_has_what_the_log_has(tmp_path: Path) -> None:
    fit(tmp_path / "run", dataset(tmp_path))
    with open(tmp_path / "run/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [int(row["step"]) for row in rows] == sorted({line["step"] for line in lines})
    for line in lines:
        row = next(row for row in rows if int(row["step"]) == line["step"])
        assert {name: float(row[name]) for name in line} == pytest.approx(line)
    assert {"loss", "box", "class", "learning_rate", "val_AP", "val_AP/cell", "val_AP/disc"} <= set(rows[0])
    assert rows[-1]["val_AP/cell"]


def test_the_first_batches_are_shown_as_the_model_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[Any]] = []
    cell = contact_sheet._cell

    def note(image: torch.Tensor, targets: Any, classes: Sequence[str]) -> Image.Image:
        shown.append([image.clone(), targets.boxes])
        assert list(classes) == ["cell", "disc"]
        return cell(image, targets, classes)

    monkeypatch.setattr(contact_sheet, "_cell", note)
    learned: list[list[Any]] = []

    class Noting(TinyDetector):
        def forward(self, images: list[torch.Tensor], targets: Any = None) -> Any:
            if targets is not None:
                learned.extend([i.clone(), t.boxes] for i, t in zip(images, targets, strict=True))
            return super().forward(images, targets)

    d = dataset(tmp_path)
    config = replace(QUICK, out=str(tmp_path / "run"), augment=(data.HorizontalFlip(), data.ColorJitter()), epochs=8)
    train.fit(Noting(), d, None, config, quiet=True)
    assert len(shown) == contact_sheet.MOST == len(learned) / 2
    for (image, boxes), (same, others) in zip(shown, learned, strict=False):
        assert torch.equal(image, same)
        assert torch.equal(boxes, others)
    sheet = Image.open(tmp_path / "run/first_batches.jpg")
    assert sheet.size == (4 * 320, 6 * 320)


def test_looking_at_the_first_batches_changes_no_random_number(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    for draw in (torch.rand, np.random.rand):
        torch.manual_seed(3)
        np.random.seed(3)
        expected = draw(4)
        torch.manual_seed(3)
        np.random.seed(3)
        contact_sheet.write(d, QUICK, tmp_path / "sheet.jpg")
        assert (draw(4) == expected).all()


def test_callbacks(tmp_path: Path) -> None:
    steps: list[train.StepEvent] = []
    scores: list[train.EvaluationEvent] = []
    result = fit(tmp_path / "run", dataset(tmp_path), on_step=steps.append, on_evaluation=scores.append)
    assert [(e.step, e.steps, e.epoch) for e in steps] == [(s, 12, s / 3) for s in (2, 4, 6, 8, 10, 12)]
    assert all(set(e.losses) == {"loss", "box", "class", "gradient_norm"} for e in steps)
    assert all(0 < e.learning_rate <= QUICK.learning_rate for e in steps)
    assert [e.step for e in scores] == [3, 6, 9, 12]
    assert scores[0].best
    assert scores[-1].scores == result.scores
    assert {"AP", "AP50", "AP/cell", "AP/disc"} <= set(result.scores)
    assert result.scores["AP"] == pytest.approx((result.scores["AP/cell"] + result.scores["AP/disc"]) / 2)

    class Enough(Exception):
        pass

    def stop(event: train.StepEvent) -> None:
        raise Enough

    with pytest.raises(Enough):
        fit(tmp_path / "other", dataset(tmp_path), on_step=stop)
    called: list[Any] = []
    train.fit(TinyDetector(), dataset(tmp_path), None, replace(QUICK, out=None), quiet=True, on_step=called.append)
    assert len(called) == 6


def test_a_run_that_has_not_begun_leaves_no_file(tmp_path: Path) -> None:
    class Broken(TinyDetector):
        def forward(self, images: Any, targets: Any = None) -> Any:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        train.fit(Broken(), dataset(tmp_path), None, replace(QUICK, out=str(tmp_path / "run")), quiet=True)
    assert list((tmp_path / "run").iterdir()) == []


def test_tensorboard_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tmp_path / "run", dataset(tmp_path))
    found = EventAccumulator(str(tmp_path / "run/tensorboard"))
    found.Reload()
    assert {"learning_rate", "loss/loss", "loss/box", "val/AP", "val/AP/cell"} <= set(found.Tags()["scalars"])
    assert [e.step for e in found.Scalars("val/AP")] == [3, 6, 9, 12]


def test_without_tensorboard_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    fit(tmp_path / "run", dataset(tmp_path))
    assert not (tmp_path / "run/tensorboard").exists()
    assert "tensorboard" not in caplog.text.lower()


def test_a_users_model_and_data_set_are_described_too(tmp_path: Path) -> None:
    class Plain(TinyDetector):
        pass

    d = dataset(tmp_path)
    items = [d[i] for i in range(4)]
    train.fit(Plain(), items, None, replace(QUICK, out=str(tmp_path / "run")), quiet=True)
    found = json.loads((tmp_path / "run/config.json").read_text())
    assert found["model"]["family"] == "Plain"
    assert found["data"] == {"train": {"images": 4}, "val": None}
    assert (tmp_path / "run/first_batches.jpg").exists()


@pytest.mark.parametrize("augment", ["HorizontalFlip, ScaleJitter(0.6, 1.3)", "HorizontalFlip(0.5, ((1, 2),))", ""])
def test_settings_are_read_back(tmp_path: Path, augment: str) -> None:
    config = replace(QUICK, augment=data.parse_transforms(augment), milestones=(0.5, 0.75), clip_norm=0.0)
    run_folder.write(tmp_path, config, TinyDetector(), dataset(tmp_path), None, {}, False)
    assert run_folder.settings_of(run_folder.read(tmp_path), tmp_path) == config


def test_settings_that_text_cannot_hold_are_named(tmp_path: Path) -> None:
    class Mine(data.HorizontalFlip):
        pass

    run_folder.write(tmp_path, replace(QUICK, augment=(Mine(),)), TinyDetector(), dataset(tmp_path), None, {}, False)
    with pytest.raises(InputError, match=r"^resume must find settings in .*config\.json that can be read back"):
        run_folder.settings_of(run_folder.read(tmp_path), tmp_path)


def test_weights_are_named_with_their_hash(tmp_path: Path) -> None:
    checkpoints.save(TinyDetector(), tmp_path / "w.safetensors")
    found = run_folder.file_entry(tmp_path / "w.safetensors")
    assert found["sha256"] == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert Path(found["file"]).is_absolute()
    assert state.CONFIG == "config.json"
