"""Models inside ``torch``'s wrappers are saved, filled, scored and trained as the models that they hold."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.optim.swa_utils import AveragedModel

from pyrcnn import checkpoints, evaluate, models, train
from tests.checkpoints.test_torchvision import same
from tests.checkpoints.test_wrappers import fresh, trained
from tests.detector import TinyDetector, dataset

MODELS: dict[str, Any] = {
    "compiled": torch.compile,
    "parallel": nn.DataParallel,
    "averaged": AveragedModel,
    "compiled and parallel": lambda m: nn.DataParallel(torch.compile(m)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("wrapper", MODELS)
def test_a_wrapped_model_is_saved_and_filled(wrapper: str, tmp_path: Path) -> None:
    model = copy.deepcopy(trained())
    model.classes, model.category_ids = ["cat", "dog"], [4, 9]
    wrapped = MODELS[wrapper](model)
    checkpoints.save(wrapped, tmp_path / "m.safetensors")
    again = models.load(tmp_path / "m.safetensors")
    assert same(model, again)
    assert (again.classes, again.category_ids, again.config) == (["cat", "dog"], [4, 9], model.config)
    other = fresh()
    checkpoints.load(MODELS[wrapper](other), tmp_path / "m.safetensors")
    if wrapper != "averaged":  # which averages a copy
        assert same(model, other)


def test_a_model_with_a_compiled_part_is_saved_and_filled(tmp_path: Path) -> None:
    model, other = copy.deepcopy(trained()), fresh()
    model.backbone, other.backbone = torch.compile(model.backbone), torch.compile(other.backbone)
    assert any("_orig_mod" in name for name in model.state_dict())
    checkpoints.save(model, tmp_path / "m.safetensors")
    assert same(trained(), models.load(tmp_path / "m.safetensors"))
    checkpoints.load(other, tmp_path / "m.safetensors")
    assert same(model, other)


WITH: dict[str, Any] = MODELS | {
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "compiled and parallel": lambda m: torch.compile(nn.DataParallel(m), backend="eager"),
}


@pytest.mark.parametrize("wrapper", WITH)
def test_a_wrapped_model_is_scored_by_its_own_classes(wrapper: str, tmp_path: Path) -> None:
    model, d = TinyDetector().eval(), dataset(tmp_path)
    model.classes, model.category_ids = ["disc", "cell"], [5, 3]  # the other order, which a wrapper would hide
    wrapped = WITH[wrapper](model).train()
    results = evaluate.predict(wrapped, d)
    assert results == evaluate.predict(model, d)
    assert {result["category_id"] for result in results} <= {3, 5}
    assert evaluate.coco(wrapped, d) == evaluate.coco(model, d)


@pytest.mark.parametrize("wrapper", WITH)
def test_a_wrapped_model_is_trained(wrapper: str, tmp_path: Path) -> None:
    d, states = dataset(tmp_path), []
    for wrap in (lambda m: m, WITH[wrapper]):
        torch.manual_seed(7)
        given = wrap(TinyDetector())
        out = tmp_path / str(len(states))
        config = train.TrainConfig(epochs=2, batch_size=2, learning_rate=0.01, out=str(out))
        train.fit(given, d, d, config, quiet=True)
        model = models.unwrap(given)
        assert (model.classes, model.category_ids) == (["cell", "disc"], [3, 5])
        assert not given.training
        states.append(model.state_dict())
        with safe_open(out / "last.safetensors", "pt") as saved:
            assert set(saved.keys()) == set(states[-1])
            assert '"category_ids": [3, 5]' in saved.metadata()["pyrcnn"]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_model_of_several_processes_is_trained(tmp_path: Path) -> None:
    """The losses must come from the wrapper, which sums the gradients."""
    model, calls = TinyDetector(), []
    init = f"file://{tmp_path / 'rendezvous'}"
    torch.distributed.init_process_group("gloo", init_method=init, rank=0, world_size=1)
    try:
        given = nn.parallel.DistributedDataParallel(model)
        given.register_forward_pre_hook(lambda *_: calls.append(given.training))
        train.fit(given, dataset(tmp_path), None, train.TrainConfig(epochs=1, batch_size=2, out=None), quiet=True)
    finally:
        torch.distributed.destroy_process_group()
    assert calls == [True] * 3
    assert model.category_ids == [3, 5]


def test_a_model_with_one_part_is_not_unwrapped() -> None:
    one = nn.Sequential(OrderedDict(backbone=nn.Linear(2, 2)))
    assert models.unwrap(one) is one
    model = trained()
    assert models.unwrap(model) is model
