"""Models in folders: what is written, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import pyrcnn
from pyrcnn import InputError, models
from pyrcnn.commands import starting

NAME = "centernet_mobilenet_v2_fpn_512"
IMAGE = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def small(**changes: object) -> torch.nn.Module:
    model = models.build(NAME, **{"num_classes": 2, "input_size": 64, "head_width": 8, **changes}).eval()
    model.classes, model.category_ids = ["red | <b>cell</b>\n", "[x](y)"], [7, 9]
    return model


def test_a_folder_holds_the_model_and_its_card(tmp_path: Path) -> None:
    model = small()
    model.save_pretrained(tmp_path / "m", license="apache-2.0")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["README.md", "model.safetensors"]
    again = models.Detector.from_pretrained(tmp_path / "m")
    assert not again.training
    assert (type(again), again.config, again.classes) == (models.CenterNet, model.config, model.classes)
    for ours, theirs in zip(model([IMAGE])[0]._values()[:3], again([IMAGE])[0]._values()[:3], strict=True):
        assert torch.equal(ours, theirs)
    assert (
        models.CenterNet.from_pretrained(str(tmp_path / "m/model.safetensors"), max_detections=3).config.max_detections
        == 3
    )
    _, head, body = (tmp_path / "m/README.md").read_text().split("---\n", 2)
    assert head.splitlines() == [
        "library_name: pyrcnn",
        "pipeline_tag: object-detection",
        "license: apache-2.0",
        "tags:",
        "- centernet",
        "- mobilenet_v2",
    ]
    assert "`head_width=8`" in body
    assert "| 0 | red &#124; &#60;b&#62;cell&#60;/b&#62;&#92;n | 7 |" in body
    assert "| 1 | &#91;x&#93;(y) | 9 |" in body


def test_weights_are_replaced_and_the_card_stays(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    (tmp_path / "README.md").write_text("my own words")
    small().save_pretrained(tmp_path, dtype=torch.float16)
    assert (tmp_path / "model.safetensors").stat().st_size < 0.6 * size
    assert (tmp_path / "README.md").read_text() == "my own words"


def test_another_family_is_refused(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds a CenterNet, not a FasterRCNN"):
        models.FasterRCNN.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("nothing here", {}, "folder_or_repo must be a folder with model.safetensors, or a repository owner/name"),
        ("../a", {}, "must be a folder with model.safetensors, or a repository"),
        ("a/b/c", {}, "must be a folder with model.safetensors, or a repository"),
        (3, {}, "folder_or_repo must be a path, got int"),
        (".", {"revision": "v1"}, "revision must be left out with a folder, got 'v1'"),
        (".", {}, "no such file: ./model.safetensors"),
        (".", {"device": "tpu"}, "device must be cpu or cuda, got 'tpu'"),
        ("hf://a/b@v1", {"revision": "v2"}, "revision must be given once"),
    ],
)
def test_what_is_no_model_is_refused(given, options: dict, message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        models.Detector.from_pretrained(given, **options)


def test_without_huggingface_hub_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (
        lambda: models.Detector.from_pretrained("owner/name"),
        lambda: pyrcnn.load_model("hf://owner/name"),
        lambda: pyrcnn.load_model(NAME, weights="hf://owner/name"),
        lambda: small().push_to_hub("owner/name"),
    ):
        with pytest.raises(InputError, match=r"needs huggingface_hub: pip install huggingface_hub$"):
            call()


def test_a_path_is_never_taken_for_a_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # asking for it would fail otherwise
    with pytest.raises(InputError, match=r"name_or_file: no such file: runs/best; a repository .* is hf://owner/name"):
        pyrcnn.load_model("runs/best")


def test_training_starts_from_a_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    monkeypatch.setattr(starting, "downloaded", lambda address: str(tmp_path / "model.safetensors"))
    for given in (("hf://owner/name", None), (NAME, "hf://owner/name")):
        start = starting.Start.of(*given, None)
        assert start.weights == str(tmp_path / "model.safetensors")
        assert start.model(["a"], {}).config.head_width == 8


def test_a_bad_license_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="license must be an identifier"):
        small().save_pretrained(tmp_path / "new", license="mit\nevil: yes")
    assert not (tmp_path / "new").exists()
