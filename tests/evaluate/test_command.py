"""``pyrcnn evaluate``: metrics, classes and reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyrcnn import evaluate
from tests.detector import dataset
from tests.test_cli import run

from .files import truth_as_detections


@pytest.fixture
def given(tmp_path: Path) -> tuple[Any, ...]:
    """Return the options of a data set and a results file, whose detections are the truth without one object."""
    data = dataset(tmp_path)
    found = truth_as_detections(data)
    results = [r for f, record in zip(found, data.records, strict=True)
               for r in evaluate.to_results(f, record.image_id, data.category_ids)]  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(results[1:]))
    return "evaluate", "--annotations", tmp_path / "annotations.json", "--detections", tmp_path / "results.json"


@pytest.mark.parametrize("year", [2007, 2012])
def test_voc(monkeypatch, capsys, tmp_path: Path, given: Any, year: int) -> None:
    assert run(monkeypatch, *given, "--metric", f"voc{year}", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == evaluate.voc(tmp_path / "results.json", tmp_path / "annotations.json", year=year)
    assert 0 < found["mAP"] < 1
    assert run(monkeypatch, *given, "--metric", f"voc{year}") == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == ["Pascal", "mAP", "cell", "disc"]


def test_each_class_is_printed(monkeypatch, capsys, given: Any) -> None:
    assert run(monkeypatch, *given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].split() == ["class", "objects", "AP", "AP50", "AP75", "AR"]
    assert [line.split()[:2] for line in lines[-2:]] == [["cell", "6"], ["disc", "6"]]
    assert run(monkeypatch, *given, "--json") == 0
    assert list(json.loads(capsys.readouterr().out)) == list(evaluate.BOX_NAMES)


def test_report(monkeypatch, capsys, tmp_path: Path, given: Any) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "out"
    assert run(monkeypatch, *given, "--report", folder, "--images", tmp_path / "images") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "index.html")
    text = (folder / "index.html").read_text()
    assert f"results.json on {tmp_path / 'annotations.json'}" in text
    assert "data:image/jpeg" in text
    assert run(monkeypatch, *given, "--report", folder, "--json") == 2
    assert "--report: " in capsys.readouterr().err
    assert run(monkeypatch, *given, "--report", folder, "--overwrite", "--json") == 0
    assert "AP50" in json.loads(capsys.readouterr().out)
    assert "data:image/jpeg" not in (folder / "index.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--metric", "map"), "--metric must be one of coco, voc2007, voc2012, got 'map'"),
     (("--metric", "voc2007", "--keypoints"), "--metric must be coco with --keypoints"),
     (("--images", "."), "give either --detections")],
)  # fmt: skip
def test_options_that_do_not_fit(monkeypatch, capsys, given: Any, options: Any, message: str) -> None:
    assert run(monkeypatch, *given, *options) == 2
    assert message in capsys.readouterr().err
