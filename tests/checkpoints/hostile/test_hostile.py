"""Checkpoints from strangers: each gives one line, in little time and memory, and executes nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import python

SECONDS, MEGABYTES = 10, 1500
ESCAPED = Path("/tmp/hostile_was_here")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("hostile")
    main = "import sys, pathlib; from tests.checkpoints import hostile; hostile.main(pathlib.Path(sys.argv[1]))"
    command, here = python(main, folder)
    result = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=3600)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0, f"stopped after {lines[-1:]}: {result.stderr[-500:]}"
    assert not list(folder.rglob("escaped*"))
    return lines


def test_every_file_gives_one_line(outcomes: list[dict[str, Any]]) -> None:
    assert len(outcomes) > 150
    for outcome in outcomes:
        for text in outcome["outcomes"]:
            assert text.startswith("InputError: "), outcome
            assert text.isprintable(), outcome
            assert len(text) < 1000, outcome


def test_every_file_takes_little_time_and_memory(outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        assert outcome["seconds"] < SECONDS, outcome
        assert outcome["megabytes"] < MEGABYTES, outcome


def test_every_message_names_its_file(outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        assert all(f"/{outcome['name']}" in text for text in outcome["outcomes"]), outcome


@pytest.mark.usefixtures("outcomes")
def test_nothing_was_executed_or_written_elsewhere() -> None:
    assert not ESCAPED.exists()
    assert not Path("/tmp/escaped.index.data-0").exists()
