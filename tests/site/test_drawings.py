"""The drawings of the operators' pages: there is one for each, and they show what the operators return."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from pyrcnn import ops
from scripts.site import drawings, operators

PAGES = [path for path in operators.PAGES.glob("*.md") if path.name != "index.md"]
MOST_BYTES = 60_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_has_its_drawing(page) -> None:
    asked = [name for kind, name in operators.DIRECTIVE.findall(page.read_text()) if kind == "drawing"]
    assert asked == [page.stem]
    svg = drawings.DRAWINGS[page.stem]()
    assert svg == drawings.DRAWINGS[page.stem]()  # the same in every build
    assert len(svg.encode()) < MOST_BYTES
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert drawings.alt(page.stem).endswith(".")


def test_no_drawing_is_left_over() -> None:
    assert set(drawings.DRAWINGS) == {page.stem for page in PAGES}


def test_a_drawing_shows_the_result_of_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = re.findall(r">(0\.\d\d)<", drawings.DRAWINGS["nms"]())
    assert kept[6:] == ["0.90", "0.75", "0.50"]
    monkeypatch.setattr(ops, "nms", lambda boxes, scores, threshold: scores.argsort(descending=True)[:2])
    assert re.findall(r">(0\.\d\d)<", drawings.DRAWINGS["nms"]())[6:] == ["0.90", "0.80"]


def test_nothing_is_drawn_on_a_background() -> None:
    """Both colour schemes can be behind it: no white, and no black lines or letters."""
    for name in ("nms", "boxes", "losses", "anchors"):
        svg = drawings.DRAWINGS[name]()
        assert not re.search(r"(fill|stroke): ?(#ffffff|#000000|white|black)", svg), name
