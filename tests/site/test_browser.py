"""The built site: its links, and how a browser shows its pages. ``.ci/site`` builds it and sets ``$PYRCNN_SITE``."""

from __future__ import annotations

import os
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import CHROMIUM, Page

if "PYRCNN_SITE" not in os.environ:
    pytest.skip("PYRCNN_SITE names no built site; .ci/site builds one", allow_module_level=True)
SITE = Path(os.environ["PYRCNN_SITE"]).resolve()
PAGES = sorted(page for page in SITE.rglob("*.html") if page.name != "404.html")  # whose links are for a server
PHONE, DESKTOP = 390, 1280
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


class Links(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given.get("href", ""))
        elif "src" in given:
            self.loads.append(given["src"])


@pytest.fixture(scope="module")
def parsed() -> dict[Path, Links]:
    return {page: Links(page) for page in PAGES}


def target(page: Path, link: str) -> tuple[Path, str]:
    path, fragment = urlsplit(link).path, unquote(urlsplit(link).fragment)
    return ((page.parent / unquote(path)).resolve() if path else page), fragment


def test_links_lead_somewhere(parsed: dict[Path, Links]) -> None:
    assert len(PAGES) > 50
    broken = []
    for page, found in parsed.items():
        for link in found.links:
            if urlsplit(link).scheme:
                continue
            file, fragment = target(page, link)
            file = file / "index.html" if file.is_dir() else file
            missing = not file.is_file() or (fragment and file in parsed and fragment not in parsed[file].anchors)
            broken += [f"{page.relative_to(SITE)}: {link}"] if missing else []
    assert not broken


def test_nothing_is_loaded_from_another_host(parsed: dict[Path, Links]) -> None:
    outside = {(page.name, url) for page, found in parsed.items() for url in found.loads if urlsplit(url).netloc}
    assert not outside
    for sheet in SITE.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text()), sheet


def shown(page: Page) -> None:
    """Wait until the theme's script has run, which shows the search."""
    until(page, "document.querySelector('[data-md-component=search]') !== null && document.readyState === 'complete'")


def until(page: Page, condition: str, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"{condition}: not within {seconds} s; {page.problems}"
        time.sleep(0.05)


@in_browser
def test_every_page_on_a_phone() -> None:
    """One browser opens all pages: no error on the console, no request to a host, and nothing that scrolls sideways."""
    with Page(PAGES[0], PHONE) as page:
        for path in PAGES:
            page.open(path)
            shown(page)
            wide = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{path.relative_to(SITE)} is {wide} pixels too wide"
            assert page.evaluate("document.querySelector('article').innerText.length") > 20
            assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            assert not page.problems, f"{path.relative_to(SITE)}: {page.problems}"
        outside = [url for url in page.requests if not url.startswith(("file:", "data:", "about:", "blob:"))]
        assert not outside


@in_browser
@pytest.mark.parametrize("name", ["index.html", "operators/nms.html"])
def test_search(name: str) -> None:
    """Also from a page in a folder, and from the disk, where browsers allow no workers."""
    with Page(SITE / name, DESKTOP) as page:
        shown(page)
        page.evaluate("document.querySelector('.md-search__input').focus()")
        page.call("Input.insertText", text="roi_align")
        page.call("Input.dispatchKeyEvent", type="keyUp", key="Shift")  # the theme searches when a key is released
        until(page, "document.querySelectorAll('.md-search-result__item a').length > 0")
        found = page.evaluate("[...document.querySelectorAll('.md-search-result__item a')].map(a => a.href).join(' ')")
        assert "operators/roi_align.html" in found
        assert not page.problems


@in_browser
@pytest.mark.parametrize("dark", [False, True])
def test_both_colour_schemes(dark: bool) -> None:
    """The system's scheme is taken, and the button changes it."""
    with Page(SITE / "operators/nms.html", DESKTOP, dark=dark) as page:
        shown(page)
        brightness = (
            "(() => { const rgb = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number);"
            " return (rgb[0] + rgb[1] + rgb[2]) / 3 })()"
        )
        until(page, f"({brightness} < 100) === {str(dark).lower()}")
        page.evaluate("[...document.querySelectorAll('label[for^=__palette]')].find(l => !l.hidden).click()")
        until(page, f"({brightness} < 100) === {str(not dark).lower()}")
        assert not page.problems
