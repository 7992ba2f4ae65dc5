"""The pages in docs/guides and docs/understanding say what is so: blocks run, outputs, files and links are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.guides.pages import PAGES, REASONS, ROOT, RUN, Block, blocks, compare, run_page, words

MOST_LINES = 250  # of a page
ids = [f"{path.parent.name}-{path.stem}" for path in PAGES]


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_marks_are_known(path: Path) -> None:
    for block in blocks(path.read_text()):
        kind, _, rest = block.mark.partition(": ")
        if kind == "not run":
            assert rest in REASONS, f"{rest!r} is none of {REASONS}"
        elif block.language in RUN and block.mark:
            assert kind == "needs", block.mark


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_page(path: Path) -> None:
    """It is short, and its links and the files that it names exist."""
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", prose):
        assert (path.parent / target).exists(), target
    for name in re.findall(
        r"(?<![\w/])(?:csrc|examples|tests|benchmarks|pyrcnn)/[\w./]+\.(?:py|h|cpp|sh|md|cuh|cu)\b", text
    ):
        assert any((ROOT / folder / name).is_file() for folder in (".", "include")) or "scale_boxes" in name, name


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_blocks_run(path: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    missing = run_page(path, tmp_path / "work", compare)
    if missing:
        pytest.skip(f"all but what needs {', '.join(missing)} ran")


def test_what_comes_from_the_code() -> None:
    spec = importlib.util.spec_from_file_location("from_code", ROOT / "scripts/site/from_code.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "ops" in {name for floor in module.floors() for name in floor}
    assert module.letters().count("\n") == 11
    for path, text in module.pages().items():
        assert path.read_text() == text, "run python scripts/site/from_code.py"


def test_a_wrong_output_is_found() -> None:
    page = "```sh\necho 3\n```\n\n<!-- numbers vary -->\n```text\ntook 5 ms\n```\n"
    page += "<!-- not run: network -->\n```sh\nx\n```\n"
    varying, shown = blocks(page)
    assert (varying.varies, varying.output, shown.runs) == (True, "took 5 ms\n", False)
    compare(varying, "took 7.2 s\n")
    for other in ("lasted 5 ms\n", "took 5 ms twice\n"):
        with pytest.raises(AssertionError):
            compare(varying, other)
    with pytest.raises(AssertionError):
        compare(Block("sh", "", "", output="3\n"), "4\n")
    assert words("2,000 boxes: 7 ms (3.1x)") == ["boxes"]
