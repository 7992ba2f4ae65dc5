"""Arguments of the wrong type: one sentence that names the argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import pyrcnn
from pyrcnn import InputError, checkpoints, deploy, models, settings, train
from pyrcnn.train import TrainConfig
from tests.detector import TinyDetector, dataset

NAME = "centernet_mobilenet_v2_fpn_512"


@pytest.fixture(scope="module")
def model() -> Any:
    return models.build(NAME, num_classes=1, input_size=64).eval()


def refused(call: Any, argument: str) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value).startswith(argument + " must be"), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [5, [], b"x.safetensors", object(), "a\0b.safetensors", 1.5, ("a", "b")])
def test_paths(wrong: Any, model: Any) -> None:
    refused(lambda: pyrcnn.load_model(wrong), "name_or_file")
    refused(lambda: pyrcnn.load_model(NAME, wrong), "weights")
    refused(lambda: models.load(wrong), "file")
    refused(lambda: checkpoints.load_backbone(model, wrong), "file")
    refused(lambda: checkpoints.save(model, wrong), "file")
    refused(lambda: deploy.export(model, wrong), "path")


@pytest.mark.parametrize("wrong", [None, 5, {}, torch.nn.Linear(1, 1), "model.safetensors"])
def test_models(wrong: Any, tmp_path: Path) -> None:
    refused(lambda: checkpoints.save(wrong, tmp_path / "m.safetensors"), "model")
    refused(lambda: deploy.export(wrong, tmp_path / "m.pt2"), "model")
    refused(lambda: deploy.optimize(wrong), "model")
    if not isinstance(wrong, torch.nn.Module):
        refused(lambda: train.fit(wrong, dataset(tmp_path)), "model")
    assert not list(tmp_path.glob("m.*"))


@pytest.mark.parametrize("wrong", [None, 5, 1.5, iter([]), object()])
def test_images(wrong: Any, model: Any) -> None:
    for called in (model, deploy.optimize(model)):
        refused(lambda called=called: called(wrong), "images")


@pytest.mark.parametrize("wrong", [5, None, "gpu", "cuda:x", "mps", object()])
def test_devices(wrong: Any, tmp_path: Path) -> None:
    refused(lambda: pyrcnn.load_model(NAME, device=wrong), "device")
    if wrong != "mps":  # which a machine may have
        refused(
            lambda: train.fit(TinyDetector(), dataset(tmp_path), None, TrainConfig(out=None, device=wrong)), "device"
        )


def test_other_arguments(model: Any, tmp_path: Path) -> None:
    for dtype in ("float16", torch.int8, 5):
        refused(lambda dtype=dtype: checkpoints.save(model, tmp_path / "m.safetensors", dtype), "dtype")
    for batch in ("1", 0, 1.5):
        refused(lambda batch=batch: deploy.export(model, tmp_path / "m.pt2", batch=batch), "batch")
    for format in (5, [], None, "tf"):
        refused(lambda format=format: deploy.export(model, tmp_path / "m.pt2", format), "format")
    data = dataset(tmp_path)
    for wrong in (None, 5, {}, iter(data)):
        if not isinstance(wrong, dict):
            refused(lambda wrong=wrong: train.fit(TinyDetector(), wrong), "train_data")
        if wrong is not None and not isinstance(wrong, dict):
            refused(lambda wrong=wrong: train.fit(TinyDetector(), data, wrong), "val_data")
        refused(lambda wrong=wrong: train.fit(TinyDetector(), data, None, wrong), "config")


@pytest.mark.parametrize(
    ("field", "values"),
    {
        "epochs": ("12", None, float("nan"), float("inf"), [1]),
        "batch_size": (2.5, "2", None),
        "workers": (1.5, "0"),
        "seed": ("a", 0.5),
        "learning_rate": ("1e-3", float("nan"), 1j),
        "milestones": (0.5, "0.5", None),
        "augment": (5, "flip"),
        "out": (5, ["runs"]),
        "optimizer": (None, 5),
        "resume": ("yes", 1),
        "overwrite": (None, "no"),
    }.items(),
)
def test_settings_of_training(field: str, values: tuple[Any, ...]) -> None:
    for value in values:
        refused(lambda value=value: TrainConfig(**{field: value}), field)
    TrainConfig(out=Path("runs"), epochs=1, milestones=[0.5])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "setting",
    ["epochs=" + "(" * 5000, "epochs=" + "-" * 200_000 + "1", "epochs=" + "9" * 5000, "epochs=[1", "epochs=a\0b",
     "epochs={}", "epochs=\ud800", "epochs=" + "[" * 300 + "]" * 300],
    ids=range(8),
)  # fmt: skip
def test_settings_of_the_command_line(setting: str) -> None:
    with pytest.raises(InputError, match="--set epochs: must be float"):
        settings.parse([setting], TrainConfig())
