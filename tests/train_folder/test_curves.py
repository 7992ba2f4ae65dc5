"""The log as a table and as curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyrcnn.train import events
from pyrcnn.train.run_folder import curves
from tests.detector import dataset

from .test_files import fit


@pytest.fixture(autouse=True)
def _without_curves() -> None:
    """Replaces the fixture of this name: here, curves are drawn."""


def test_a_log_that_was_cut_short_is_read(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 2, "epoch": 1, "loss": 3.5}\n{"step": 2, "val_AP": 0.5}\n[]\n{"step": 4, "lo')
    assert curves.read(log) == [{"step": 2, "epoch": 1, "loss": 3.5, "val_AP": 0.5}]
    curves.write_table(log, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines() == ["step,epoch,loss,val_AP", "2,1,3.5,0.5"]


def test_curves_are_drawn_at_the_end_and_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    drawn = []
    draw = curves.draw
    monkeypatch.setattr(curves, "draw", lambda log, file: drawn.append(len(curves.read(log))) or draw(log, file))
    monkeypatch.setattr(events, "_PAUSE", 0.0)
    fit(tmp_path / "run", dataset(tmp_path))
    assert len(drawn) == 4 + 1  # epochs, the end
    assert drawn == sorted(drawn)
    picture = Image.open(tmp_path / "run/curves.png").convert("L")
    assert picture.size == (1100, 770)
    assert np.asarray(picture).std() > 5


def test_a_picture_that_cannot_be_drawn_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(log: Path, file: Path) -> None:
        raise OSError("no space")

    monkeypatch.setattr(curves, "draw", fail)
    assert fit(tmp_path / "run", dataset(tmp_path)).steps == 12
    assert caplog.text.count("cannot be drawn: no space") == 1
