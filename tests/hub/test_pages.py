"""The snippets and commands of docs/guides/hub.md and docs/guides/serving.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import pyrcnn
from pyrcnn import models
from pyrcnn.models import pretrained
from tests.hub.test_examples import EXAMPLES, example
from tests.pages import blocks, run_commands

ASSETS = Path(pyrcnn.__file__).parent / "assets"


def test_the_page_of_the_hub(monkeypatch, capsys, tmp_path: Path) -> None:
    """Uploads and downloads go to a folder here; tests/hub/test_hub.py has them with the real client."""
    (tmp_path / "pyrcnn").mkdir()
    (tmp_path / "pyrcnn/assets").symlink_to(ASSETS)
    (tmp_path / "photos").mkdir()
    with Image.open(ASSETS / "BloodImage_00021.jpg") as image:
        image.save(tmp_path / "photos/a.jpg")
        image.save(tmp_path / "large.jpg")
    monkeypatch.chdir(tmp_path)
    folder, hub, supervision, sahi = blocks("guides/hub.md", "python")
    names: dict[str, Any] = {}
    exec(folder, names)
    assert sorted(path.name for path in Path("cells").iterdir()) == ["README.md", "model.safetensors"]
    asked = []

    def downloaded(repository: str, revision: str | None = None, token: str | None = None) -> str:
        asked.append((repository, revision))
        return "hub/model.safetensors"

    def pushed(model: Any, repository: str, private: bool) -> None:
        asked.append((repository, private))
        model.save_pretrained("hub")

    monkeypatch.setattr(pretrained, "downloaded", downloaded)
    monkeypatch.setattr("pyrcnn.checkpoints.opening.downloaded", downloaded)
    monkeypatch.setattr(models.Detector, "push_to_hub", pushed)
    exec(hub, names)
    assert len(run_commands("guides/hub.md", monkeypatch, capsys)) == 1
    name, address = "owner/name", "hf://owner/name@main"
    assert asked == [(name, True), (name, "main"), (address, None), (address, None)]
    pytest.importorskip("supervision")
    exec(supervision, names)
    assert len(names["ours"]) == len(names["theirs"]) == len(names["detections"])
    pytest.importorskip("sahi")
    from sahi.predict import get_sliced_prediction

    names |= {"SahiModel": example("sahi_model.py").SahiModel, "get_sliced_prediction": get_sliced_prediction}
    exec(sahi, names)


def test_the_page_of_the_server_names_what_is_there() -> None:
    text = (EXAMPLES.parent / "docs/guides/serving.md").read_text()
    app = (EXAMPLES / "serve/app.py").read_text()
    for variable in re.findall(r"^\| `([A-Z_]+)`", text, re.MULTILINE):
        assert f'os.environ.get("{variable}"' in app
    for path in re.findall(r"examples/[\w/]+\.py", text):
        assert (EXAMPLES.parent / path).is_file()
