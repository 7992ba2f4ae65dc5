"""Recipes: their schedules are the published ones, and what differs from them is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrcnn import InputError, data, models, train
from pyrcnn.train import schedule
from pyrcnn.train.recipes import CATALOG, RECIPES, differences
from tests.detector import TinyDetector, dataset

STORED = {
    "centernet_hourglass_512": "manual_1e-3_90000_1e-4_120000_1e-5",
    "centernet_hourglass_512_kpts": "cosine_1e-3_250000_w2.5e-4_5000",
    "centernet_hourglass_1024": "cosine_1e-3_50000_w2.5e-4_5000",
    "centernet_hourglass_1024_kpts": "cosine_1e-3_250000_w2.5e-4_5000",
    "centernet_resnet_v1": "manual_1e-3_90000_1e-4_120000_1e-5",
    "centernet_resnet_v1_kpts": "cosine_1e-3_250000_w2.5e-4_5000",
    "centernet_resnet_v2": "cosine_1e-3_250000_w2.5e-4_5000",
    "centernet_mobilenet": "cosine_5e-3_300000_w1e-4_5000",
    "centernet_mobilenet_kpts": "cosine_5e-3_300000_w1e-4_5000",
    "faster_rcnn_resnet50_v1_640": "cosine_frcnn_.04_25000_w.013333_2000",
}


@pytest.mark.parametrize(("name", "stored"), STORED.items())
def test_schedules_are_tensorflows_at_every_stored_step(name: str, stored: str) -> None:
    config = RECIPES[name]
    with np.load(Path(__file__).parents[1] / "fixtures/ops_schedules.npz") as rates:
        steps, wanted = rates["steps"], rates[stored]
        got = [config.learning_rate * schedule.rate(int(step), config.steps, config) for step in steps]
    np.testing.assert_allclose(got, wanted, rtol=3e-5, atol=1e-9)


def rates(name: str, *steps: int) -> list[float]:
    config = RECIPES[name]
    return [config.learning_rate * schedule.rate(step, config.steps, config) for step in steps]


def test_steps_where_other_schedules_change() -> None:
    """From the configurations themselves: the step before and the step of each change."""
    assert rates("detectron2_1x", 0, 500, 1000, 59_999, 60_000, 79_999, 80_000) == pytest.approx(
        [2e-5, 0.02 * (0.001 + 0.999 / 2), 0.02, 0.02, 0.002, 0.002, 0.0002]
    )
    assert rates("detectron2_3x", 1000, 209_999, 210_000, 249_999, 250_000) == pytest.approx(
        [0.02, 0.02, 0.002, 0.002, 0.0002]
    )
    assert rates("lsj_100_epochs", 0, 500, 163_888, 163_889, 177_546) == pytest.approx([0.0067, 0.1, 0.1, 0.01, 0.001])
    assert rates("paper_vgg16", 0, 49_999, 50_000) == pytest.approx([1e-3, 1e-3, 1e-4])
    assert rates("faster_rcnn_resnet50_v1_800x1333", 0, 2500, 5000) == pytest.approx([0, 0.005, 0.01], abs=1e-6)
    stages = [(s.steps, s.batch_size, s.milestones[0] * s.steps) for s in CATALOG["paper_vgg16_alternating"].stages]
    assert stages == [(80_000, 1, 60_000), (40_000, 2, 30_000)] * 2
    config = RECIPES["torchvision_26_epochs"]
    steps = 26 * (117_266 // 16)
    assert [schedule.rate(s, steps, config) for s in (0, 1000, 16 * 7329 - 1, 16 * 7329, 22 * 7329)] == pytest.approx(
        [0.001, 1, 1, 0.1, 0.01], rel=1e-3
    )


def test_all_zoo_presets_have_one_recipe_and_its_settings() -> None:
    owners = [preset for recipe in CATALOG.values() for preset in recipe.presets]
    assert set(owners) <= set(models.names())
    centernets = [name for name in models.names() if name.startswith("centernet")]
    assert sorted(name for name in owners if name.startswith("centernet")) == sorted(centernets)
    for name in STORED:
        config = RECIPES[name]
        assert (config.weight_decay, config.clip_norm, config.ema) == (0, 0, 0)
        if name.startswith("centernet"):
            mobile = "mobilenet" in name
            assert config.optimizer == "adam"
            assert config.adam_epsilon == (1e-8 if mobile else 1e-7)
            assert config.batch_size == (512 if name == "centernet_mobilenet_kpts" else 128)
            kinds = [type(t) for t in config.augment]
            assert (data.RandomCenterCrop in kinds) == ("1024" in name)
            assert (data.RandomPad in kinds) == (data.RandomCropTF in kinds) == ("1024" not in name)
            assert (data.PatchGaussian in kinds) == mobile
            assert kinds[0] is data.HorizontalFlip


@pytest.mark.parametrize("name", list(CATALOG))
def test_a_recipe_as_published_differs_in_nothing(name: str) -> None:
    recipe = CATALOG[name]
    assert recipe.about
    with torch.device("meta"):
        for preset in recipe.presets:
            model = models.build(preset, **recipe.model)
            assert differences(recipe, replace(recipe.config, device="cuda", out="x"), model, recipe.images) == []


def test_what_differs_is_told() -> None:
    recipe = CATALOG["centernet_mobilenet"]
    with torch.device("meta"):
        model = models.build("centernet_mobilenet_v2_fpn_512", num_classes=3, input_size=256)
        other = models.build("centernet_resnet50_v2_512")
        fast = models.build("faster_rcnn_vgg16")
    config = replace(recipe.config, batch_size=16, augment=(), optimizer="adamw")
    lines = differences(recipe, config, model, 205)
    assert lines == [
        "the model's num_classes is 3, published with 90",
        "the model's input_size is 256, published with 512",
        "batch_size is 16, published with 128",
        "optimizer is adamw, published with adam",
        f"augment is none, published with ({', '.join(map(str, recipe.config.augment))})",
        "train_data has 205 images, published with 118287: 300000 steps are 2.34e+04 epochs",
        "device is cpu, published with TPU-8",
    ]
    assert differences(recipe, recipe.config, other)[0].startswith("the model is another one (backbone resnet50_v2, ")
    assert differences(recipe, recipe.config, fast)[0] == (
        "the model is a FasterRCNN, published with centernet_mobilenet_v2_fpn_512"
    )
    with torch.device("meta"):
        alternating = models.build("faster_rcnn_vgg16")
    (line,) = differences(CATALOG["paper_vgg16_alternating"],
                          replace(RECIPES["paper_vgg16_alternating"], device="cuda"), alternating)  # fmt: skip
    assert line == "the model's roi.samples is 128, published with 64"
    assert differences(CATALOG["finetune"], config, model, 3) == []


def test_each_setting_of_learning_is_compared() -> None:
    recipe = CATALOG["centernet_mobilenet"]
    with torch.device("meta"):
        model = models.build("centernet_mobilenet_v2_fpn_512")
    others = {
        "steps": 3, "batch_size": 2, "accumulate": 2, "optimizer": "sgd", "adam_epsilon": 1e-3, "learning_rate": 1.0,
        "backbone_rate": 0.5, "weight_decay": 0.1, "momentum": 0.5, "schedule": "steps", "milestones": (0.5,),
        "warmup": 0.5, "warmup_from": 0.5, "clip_norm": 1.0, "ema": 0.5, "freeze_norm": True, "augment": (),
        "group_by_aspect": True,
    }  # fmt: skip
    for name, value in others.items():
        lines = differences(recipe, replace(recipe.config, device="cuda", **{name: value}), model)
        assert [line.split()[0] for line in lines] == [name]


def test_steps_take_the_place_of_epochs(tmp_path: Path) -> None:
    config = train.TrainConfig(epochs=100, steps=5, batch_size=2, out=None)
    assert train.fit(TinyDetector(), dataset(tmp_path), None, config, quiet=True).steps == 5
    assert train.fit(TinyDetector(), dataset(tmp_path), None, replace(config, steps=0, epochs=1), quiet=True).steps == 3


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_and_its_epsilon(optimizer: str) -> None:
    model = TinyDetector()
    made = schedule.make_optimizer(model, train.TrainConfig(optimizer=optimizer, adam_epsilon=0.25, weight_decay=0.1))
    assert type(made) is {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
    assert {group["eps"] for group in made.param_groups} == {0.25}
    parameter = model.head.bias  # not decayed: one step of Adam is known
    before = parameter.detach().clone()
    parameter.grad = torch.full_like(parameter, 0.5)
    made.step()
    assert torch.allclose(before - parameter, torch.full_like(before, 5e-4 * 0.5 / (0.5 + 0.25)), rtol=1e-4)
    with pytest.raises(InputError, match="adam_epsilon must be positive, got 0"):
        train.TrainConfig(adam_epsilon=0.0)
