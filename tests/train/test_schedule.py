"""The schedule, the optimizer's groups, the average of the weights, and the recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrcnn import InputError, train
from pyrcnn.train import RECIPES, TrainConfig, schedule
from tests.detector import TinyDetector


def test_schedule() -> None:
    c = TrainConfig(warmup=0.1)
    rates = [schedule.rate(s, 100, c) for s in range(100)]
    assert rates[0] < 0.1
    assert max(rates) == pytest.approx(1.0)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3
    stepped = [schedule.rate(s, 100, replace(c, schedule="steps", milestones=(0.5, 0.8))) for s in (40, 50, 80)]
    assert stepped == pytest.approx([1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("recipe", "steps", "changes", "stored"),
    [
        ("zoo_centernet", 250_000, {}, "cosine_1e-3_250000_w2.5e-4_5000"),
        ("zoo_centernet", 50_000, {"warmup": 0.1}, "cosine_1e-3_50000_w2.5e-4_5000"),
        ("zoo_centernet_mobilenet", 300_000, {}, "cosine_5e-3_300000_w1e-4_5000"),
        ("zoo_centernet_steps", 140_000, {}, "manual_1e-3_90000_1e-4_120000_1e-5"),
        ("zoo_faster_rcnn", 25_000, {}, "cosine_frcnn_.04_25000_w.013333_2000"),
    ],
)
def test_the_zoos_schedules_are_tensorflows(recipe: str, steps: int, changes: dict, stored: str) -> None:
    config = replace(RECIPES[recipe], **changes)
    with np.load(Path(__file__).parent.parent / "fixtures/ops_schedules.npz") as rates:
        got = [config.learning_rate * schedule.rate(int(step), steps, config) for step in rates["steps"]]
        np.testing.assert_allclose(got, rates[stored], rtol=3e-5, atol=1e-9)
    images = 118_287  # in COCO train2017
    if not changes:
        assert config.epochs * images / config.batch_size == pytest.approx(steps, rel=2e-3)


def test_parameter_groups() -> None:
    model = TinyDetector()
    optimizer = schedule.make_optimizer(model, TrainConfig(backbone_rate=0.1, weight_decay=0.2, learning_rate=1.0))
    seen = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert seen[id(model.backbone[0].weight)] == (0.1, 0.2)
    assert seen[id(model.backbone[1].weight)] == (0.1, 0.0)
    assert seen[id(model.head.weight)] == (1.0, 0.2)
    assert seen[id(model.head.bias)] == (1.0, 0.0)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(InputError, match="must have trainable"):
        schedule.make_optimizer(model, TrainConfig())


def test_average_follows_the_weights() -> None:
    model = TinyDetector()
    average = schedule.Average(model, 0.5)
    start = model.head.weight.detach().clone()
    with torch.no_grad():
        model.head.weight += 1
    average.update(model, 100)
    assert torch.allclose(average.values["head.weight"], start + 0.5)
    average.swap(model)
    assert torch.allclose(model.head.weight, start + 0.5)
    average.swap(model)
    assert torch.allclose(model.head.weight, start + 1)


@pytest.mark.parametrize("name", list(train.RECIPES))
def test_recipes_are_sound(name: str) -> None:
    assert train.RECIPES[name].epochs > 0
