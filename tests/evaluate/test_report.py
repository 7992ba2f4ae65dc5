"""The page of an evaluation: what it holds, for odd data too, and how a browser shows it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyrcnn import InputError, data, evaluate
from pyrcnn.evaluate import page
from tests.browser import CHROMIUM, Page
from tests.detector import TinyDetector, annotation_file, dataset

from .files import FIXTURES, truth_as_detections

pytest.importorskip("matplotlib")
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$x_{2$", "_hidden", "{{ 7 * 7 }}",
           "a\u202eb\x1b"]  # fmt: skip


class Outline(HTMLParser):
    """The elements of a page, and whether each that was opened was closed."""

    EMPTY = ("meta", "img", "br", "path", "use", "rect", "circle", "image")

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def report(folder: Path, *arguments: Any, **options: Any) -> str:
    path = evaluate.report(*arguments, folder / "report", **options)
    assert path == folder / "report/index.html"
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    text = path.read_text(encoding="utf-8")
    elements = Outline(text).found
    assert not [a for _, a in elements for name in ("src", "href", "xlink:href")
                if (value := a.get(name)) and not value.startswith(("data:image/", "#"))]  # fmt: skip
    assert all(a.get("alt") for tag, a in elements if tag == "img")
    assert sum(tag == "script" for tag, _ in elements) == 1
    ids = [a["id"] for _, a in elements if "id" in a]
    assert len(ids) == len(set(ids))
    used = {link for _, a in elements if (link := a.get("xlink:href") or "").startswith("#")}
    used |= set(re.findall(r"url\((#[\w.-]+)\)", text))
    assert {u[1:] for u in used} <= set(ids)
    assert "nan" not in re.sub(r"<[^>]*>|<style.*?</style>", "", text).lower().split()
    return text


def classes(count: int) -> list[dict[str, Any]]:
    names = [*HOSTILE, *(f"class {n}" for n in range(len(HOSTILE), count))]
    return [{"id": n, "name": name} for n, name in enumerate(names[:count], start=1)]


def many(folder: Path, count: int) -> tuple[data.CocoDataset, list[dict[str, Any]]]:
    """Return a data set of ``count`` classes with hostile names, and detections some of which are wrong."""
    random = np.random.default_rng(0)
    content = annotation_file(folder / "images")
    content["categories"] = classes(count)
    content["annotations"] *= 1 + count // 12
    content["annotations"] = [{**a, "category_id": 1 + n % count} for n, a in enumerate(content["annotations"])]
    (folder / "annotations.json").write_text(json.dumps(content))
    found = [{**a, "score": float(random.random()), "category_id": int(random.integers(1, count + 1))
              if random.random() < 0.5 else a["category_id"]} for a in content["annotations"]]  # fmt: skip
    return data.coco(folder / "images", folder / "annotations.json"), found


def named() -> TinyDetector:
    model = TinyDetector()
    model.classes = ["cell", "disc"]
    return model


def test_a_model_and_its_speed(tmp_path: Path) -> None:
    text = report(tmp_path, named(), dataset(tmp_path), title="Cells & discs")
    assert "Cells &amp; discs" in text
    assert "network and boxes" in text
    assert "data:image/jpeg;base64," in text
    with pytest.raises(InputError, match=r"^report: .*index\.html exists already"):
        evaluate.report(named(), dataset(tmp_path), tmp_path / "report")
    report(tmp_path, named(), dataset(tmp_path), overwrite=True)


@pytest.mark.parametrize("count", [1, 6, 90])
def test_classes_with_hostile_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(page, "MOST_FIGURES", 5)
    dataset, found = many(tmp_path, count)
    text = report(tmp_path, found, dataset, title=HOSTILE[0])
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    if count == 6:
        assert "a\\u202eb\\x1b" in text
    assert "49" not in re.findall(r"<th scope=\"row\">(.*?)</th>", text)
    assert ("Heat map" in text) == (count == 90)
    assert ("85 others are left out" in text) == (count == 90)


def test_odd_data(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    assert "There are no detections" in report(tmp_path, [], d)
    empty = dataset(tmp_path, annotations=[])
    assert "no objects, so" in report(tmp_path, truth_as_detections(d), empty, overwrite=True)
    assert "no objects, so" in report(tmp_path, [], empty, overwrite=True)
    text = report(tmp_path, [], tmp_path / "annotations.json", overwrite=True)  # without images
    assert "No times" in text
    assert "<img" not in text


def test_an_image_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    path = tmp_path / "images/1.jpg"
    Image.new("RGB", (40, 30)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # after the check of the data set
    text = report(tmp_path, named(), d)
    assert "Images left out because they could not be read: 1." in text
    found = [d.targets(i) for i in range(1, 6)]
    assert f"5 images, {sum(len(t) for t in found)} objects" in text


def test_keypoints(tmp_path: Path) -> None:
    found, truth = FIXTURES / "keypoints_1image_dt.json", FIXTURES / "keypoints_1image_gt.json"
    text = report(tmp_path, found, truth, keypoints=True)
    assert "Keypoints" in text
    assert 'id="confusion"' not in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1200, False)])
def test_in_a_browser(tmp_path: Path, width: int, dark: bool) -> None:
    dataset, found = many(tmp_path, 6)
    path = evaluate.report(found, dataset, tmp_path / "report", title="x" * 200)
    with Page(path, width, dark=dark) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        images = shown.evaluate("[...document.images].map(i => i.naturalWidth)")
        assert images
        assert min(images) > 0
        assert shown.evaluate("[...document.querySelectorAll('svg')].every(s => s.getBBox().width > 0)")
        rows = "[...document.querySelectorAll('.sortable tbody th')].map(c => c.textContent)"
        names = shown.evaluate(rows)
        assert HOSTILE[0] in names
        shown.evaluate("document.querySelector('.sortable button').click()")
        assert shown.evaluate(rows) == shown.evaluate(f"{rows}.sort((a, b) => a.localeCompare(b))")
        shown.evaluate("document.querySelectorAll('.sortable button')[4].click()")
        values = shown.evaluate(
            "[...document.querySelectorAll('.sortable tbody tr')].map(r => +r.cells[4].dataset.value)"
        )
        assert values == sorted(values, reverse=True)
        bright = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (bright == "rgb(255, 255, 255)") != dark
        assert shown.problems == []
        assert shown.requests[:1] == [path.as_uri()]
        assert all(r.startswith("data:") for r in shown.requests[1:])
