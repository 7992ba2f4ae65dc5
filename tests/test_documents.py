"""README, CHANGELOG, NOTICE and CITATION.cff agree with the code, the kept figures and each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import pyrcnn
from benchmarks.measuring import first_table

ROOT = Path(__file__).parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text()
VERSION = re.search(r'^version = "(.+?)"', PROJECT, re.M)


def plain(text: str) -> str:
    """The words alone: lines, quotation marks and markers differ between copies of a licence."""
    return " ".join(text.replace(">", " ").split())


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
        assert (ROOT / target).exists(), target


def test_the_readmes_table_is_that_of_the_kept_figures() -> None:
    assert first_table.README.read_text() == first_table.readme(), "run python -m benchmarks.measuring.first_table"
    assert first_table.peers(
        "torch.compile 6.51 ms (**8.4×**) · plain, bfloat16 autocast 13 s (**1.68×**) (a note)"
    ) == {
        "torch.compile": (8.4, "6.51 ms (8.4×)"),
        "plain, bfloat16 autocast": (1.68, "13 s (1.68×)"),
    }
    with pytest.raises(StopIteration):
        first_table.rows_of("zen3-avx2", "no such table")


def test_one_version() -> None:
    assert VERSION is not None
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## \[(.+?)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None
    assert (citation["version"], str(citation["date-released"])) == newest.groups()
    assert citation["version"] == VERSION[1]


def test_notices() -> None:
    """NOTICE has the licences that the bundled files ask for, and packages hold it."""
    notice = plain((ROOT / "NOTICE").read_text())
    bundled = (Path(pyrcnn.__file__).parent / "assets/LICENSES.md").read_text()
    mit = plain(bundled[bundled.index("Permission is hereby") : bundled.index("- `*.safetensors`")])
    assert mit in notice
    assert "Copyright (c) Soumith Chintala 2016" in notice
    assert "Redistributions in binary form must reproduce the above copyright notice" in notice
    files = re.search(r"^license-files = \[(.+)\]$", PROJECT, re.M)
    assert files is not None
    listed = re.findall(r'"(.+?)"', files[1])
    assert "NOTICE" in listed
    assert all((ROOT / name).is_file() for name in listed)
