"""The comparison with Pillow passes on good and damaged files, and fails on a reader that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrcnn import images

from . import judge, made


def test_judge(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in made.one_of_each().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "text.txt").write_text("no image")
    assert judge.main(tmp_path) == 0
    assert f"{len(made.one_of_each())} read, 1 refused, 0 anything else" in capsys.readouterr().out
    monkeypatch.setattr(images, "read", lambda file, real=images.read: real(file).flip(2))
    assert judge.main(tmp_path) == 1
    assert "the pixels are not Pillow's" in capsys.readouterr().out
