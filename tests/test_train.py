from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrcnn import InputError, data, train
from pyrcnn.train import RECIPES, TrainConfig, schedule
from pyrcnn.train import state as files
from tests.conftest import python
from tests.detector import TinyDetector, dataset

QUICK = TrainConfig(
    epochs=4, batch_size=2, learning_rate=0.01, ema=0.9, log_every=2, checkpoint_minutes=0, evaluate_every=2,
    augment=(data.HorizontalFlip(), data.ColorJitter()),
)  # fmt: skip


class Stop(Exception):
    """Stands for anything that ends a run from outside."""


def fit(tmp_path: Path, config: TrainConfig, stop_after: int | None = None, **more: object) -> TinyDetector:
    """Return a new model trained by ``config``; the forward pass raises after ``stop_after`` steps."""
    torch.manual_seed(7)
    model, d = TinyDetector(), dataset(tmp_path)
    calls = 0

    def count(module: torch.nn.Module, args: tuple) -> None:
        nonlocal calls
        calls += module.training
        if stop_after is not None and calls > stop_after:
            raise Stop

    model.register_forward_pre_hook(count)
    train.fit(model, d, d, config, quiet=True)
    return model


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path, accumulate: int) -> None:
    config = replace(QUICK, accumulate=accumulate)
    through = fit(tmp_path, replace(config, out=str(tmp_path / "a")))
    with pytest.raises(Stop):
        fit(tmp_path, replace(config, out=str(tmp_path / "b")), stop_after=4)  # in the middle of an epoch
    resumed = fit(tmp_path, replace(config, out=str(tmp_path / "b"), resume=True))
    for (name, a), b in zip(through.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    logs = [[json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()] for run in "ab"]
    assert logs[0] == logs[1]


def test_a_run_leaves_its_files_and_learns(tmp_path: Path) -> None:
    config = replace(QUICK, out=str(tmp_path / "run"), epochs=20)
    fit(tmp_path, config)
    present = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert present == ["best.safetensors", "checkpoint.pt", "last.safetensors", "metrics.jsonl"]
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    assert any("val_AP" in line for line in lines)


def test_the_model_takes_over_the_data_sets_classes(tmp_path: Path) -> None:
    model = fit(tmp_path, replace(QUICK, out=None, epochs=1))
    assert (model.classes, model.category_ids) == (["cell", "disc"], [3, 5])
    assert not model.training


def test_model_data_and_settings_must_fit_together(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    model = TinyDetector()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(InputError, match="at least one box that is not a crowd"):
        train.fit(model, dataset(tmp_path, annotations=[]), None, QUICK)
    model.category_ids, model.classes = [1, 2, 3], ["x", "y", "z"]
    with pytest.raises(InputError, match="build it with num_classes=2"):
        train.fit(model, d, None, QUICK)
    for wrong in ({"optimizer": "lion"}, {"steps": -1}, {"batch_size": 0}, {"ema": 1.0}, {"schedule": "linear"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            replace(QUICK, **wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="out must be a folder that can be created"):
        train.fit(TinyDetector(), d, None, replace(QUICK, out=str(tmp_path / "file/run")))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_larger_models_labels_are_used_when_the_names_agree(tmp_path: Path) -> None:
    from tests.detector import TinyConfig

    model = TinyDetector(TinyConfig(num_classes=4))
    model.category_ids, model.classes = [1, 3, 4, 5], ["w", "cell", "y", "disc"]
    train.fit(model, dataset(tmp_path), None, replace(QUICK, out=None, epochs=1), quiet=True)
    assert model.classes == ["w", "cell", "y", "disc"]


def test_resuming_refuses_another_runs_checkpoint(tmp_path: Path) -> None:
    config = replace(QUICK, out=str(tmp_path / "run"), epochs=1)
    with pytest.raises(InputError, match=r"resume must be False, got True: there is no .*checkpoint\.pt"):
        fit(tmp_path, replace(config, resume=True))
    fit(tmp_path, config)
    with pytest.raises(InputError, match="out must be a folder without a run"):
        fit(tmp_path, config)
    with pytest.raises(InputError, match=r"learning_rate is 0\.5, in the checkpoint 0\.01"):
        fit(tmp_path, replace(config, resume=True, learning_rate=0.5))
    checkpoint = tmp_path / "run/checkpoint.pt"
    whole = checkpoint.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"text"):
        checkpoint.write_bytes(damage)
        with pytest.raises(InputError, match=r"checkpoint\.pt, which is damaged"):
            fit(tmp_path, replace(config, resume=True))


def test_divergence_stops_the_run_before_the_checkpoint_is_overwritten(tmp_path: Path) -> None:
    class Diverging(TinyDetector):
        def forward(self, images, targets=None):
            return {"box": self.head.weight.sum() * float("nan")} if targets else super().forward(images)

    with pytest.raises(FloatingPointError, match="diverged"):
        train.fit(Diverging(), dataset(tmp_path), None, replace(QUICK, out=str(tmp_path / "run")), quiet=True)
    assert not (tmp_path / "run/checkpoint.pt").exists()


def test_ctrl_c_finishes_the_step_and_writes_a_checkpoint(tmp_path: Path) -> None:
    config = replace(QUICK, out=str(tmp_path / "run"), checkpoint_minutes=60)
    torch.manual_seed(7)
    model = TinyDetector()
    model.register_forward_pre_hook(lambda *_: signal.raise_signal(signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="after step 1"):
        train.fit(model, dataset(tmp_path), None, config, quiet=True)
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "run/checkpoint.pt").exists()


WRITER = """
import sys, torch
from pathlib import Path
from pyrcnn.train.state import write
path, n = Path(sys.argv[1]), 0
while True:
    n += 1
    write(path, {"identity": {}, "step": n, "values": torch.full((2_000_000,), float(n))})
    print(n, flush=True)
"""


def test_kill_9_in_the_middle_of_writing_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for pause in (0.0, 0.003, 0.011):
        command, folder = python(WRITER, path)
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        written = [process.stdout.readline() for _ in range(2)]
        assert all(written)
        time.sleep(pause)
        process.kill()
        process.wait()
        found = files.read(path, {})
        assert found["values"].eq(found["step"]).all()


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
    with np.load(Path(__file__).parent / "fixtures/ops_schedules.npz") as rates:
        got = [config.learning_rate * schedule.rate(int(step), steps, config) for step in rates["steps"]]
        np.testing.assert_allclose(got, rates[stored], rtol=3e-5, atol=1e-9)
    images = 118_287  # in COCO train2017
    if not changes:
        assert config.epochs * images / config.batch_size == pytest.approx(steps, rel=2e-3)


def test_parameter_groups() -> None:
    model = TinyDetector()
    optimizer = schedule.make_optimizer(model, TrainConfig(backbone_rate=0.1, weight_decay=0.2, learning_rate=1.0))
    seen = {id(p): (g["peak"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
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


def test_training_off_the_main_thread(tmp_path: Path) -> None:
    done: list[TinyDetector] = []
    worker = threading.Thread(target=lambda: done.append(fit(tmp_path, replace(QUICK, out=None, epochs=1))))
    worker.start()
    worker.join()
    assert done


@pytest.mark.parametrize("name", list(train.RECIPES))
def test_recipes_are_sound(name: str) -> None:
    assert train.RECIPES[name].epochs > 0
