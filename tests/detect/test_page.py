"""The commands of docs/guides/detect.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pyrcnn.checkpoints import bundled
from tests.pages import run_commands

pytest.importorskip("av")
from tests.detect.test_video import made


def test_the_commands_of_the_page_run(monkeypatch, capsys, tmp_path: Path) -> None:
    with Image.open(bundled.images()[0]) as image:
        for name in ("a.jpg", "more/b.jpg"):
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "photos" / name)
    (tmp_path / "list.txt").write_text("photos/a.jpg\n")
    made(tmp_path / "clip.mp4")
    truth = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [338, 303, 136, 134], "area": 136 * 134, "iscrowd": 0}
    listed = [{"id": i, "file_name": n, "width": 640, "height": 480} for i, n in ((1, "a.jpg"), (2, "more/b.jpg"))]
    content = {"images": listed, "annotations": [truth], "categories": [{"id": 7, "name": "WBC"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    assert len(run_commands("guides/detect.md", monkeypatch, capsys)) == 7
    assert {"a.jpg", "more", "clip.mp4"} == {path.name for path in (tmp_path / "marked").iterdir()}
    assert (tmp_path / "pyrcnn-detections/more/b.jpg").exists()
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [Path(line["image"]).name for line in lines] == ["a.jpg", "b.jpg"]
    best = json.loads((tmp_path / "results.json").read_text())[0]
    assert (best["image_id"], best["category_id"]) == (1, 7)
    assert best["bbox"] == pytest.approx(truth["bbox"], abs=3)
