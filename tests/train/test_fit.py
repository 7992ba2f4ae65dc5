from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pyrcnn import InputError, data, train
from pyrcnn.train import TrainConfig, schedule
from pyrcnn.train import state as files
from pyrcnn.train.loop import Run
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
    assert set(present) - {*files.ABOUT, "tensorboard"} == {
        "best.safetensors",
        "checkpoint.pt",
        "last.safetensors",
        "metrics.jsonl",
    }
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


def test_training_off_the_main_thread(tmp_path: Path) -> None:
    done: list[TinyDetector] = []
    worker = threading.Thread(target=lambda: done.append(fit(tmp_path, replace(QUICK, out=None, epochs=1))))
    worker.start()
    worker.join()
    assert done


def test_the_best_weights_are_those_of_keypoints_where_there_are_any(tmp_path: Path, monkeypatch) -> None:
    scores = iter([(0.9, 0.1), (0.1, 0.9), (0.5, 0.5)] * 3)

    def scored(self: Run, found: object) -> dict[str, float]:
        box, keypoint = next(scores)
        return {"AP": box, "AP50": box, "AR100": box, "keypoints_AP": keypoint}

    monkeypatch.setattr(Run, "_scores", scored)
    d = dataset(tmp_path)
    for by, best in (("auto", 0.9), ("AP50", 0.9), ("AR1", None)):
        config = replace(QUICK, out=None, epochs=3, evaluate_every=1, best_by=by)
        if best is None:
            with pytest.raises(InputError, match=r"best_by must be 'auto' or one of AP, AP50, .*, got 'AR1'"):
                train.fit(TinyDetector(), d, d, config, quiet=True)
        else:
            assert train.fit(TinyDetector(), d, d, config, quiet=True).best == best
    assert Run.best_score({"AP": 0.1}, "auto") == 0.1
    assert Run.best_score({"AP": 0.1, "keypoints_AP": 0.3}, "auto") == 0.3


def test_a_batch_larger_than_the_data_set_is_told(tmp_path: Path, capsys) -> None:
    d = dataset(tmp_path)
    result = train.fit(TinyDetector(), d, None, replace(QUICK, out=None, epochs=2, batch_size=20, augment=()))
    said = " ".join(capsys.readouterr().err.split())
    assert "6 images per batch; batch_size 20 exceeds the 6 images of train_data" in said
    assert result.steps == 2
    assert "step 1/2" in said  # the first step's time is told at once


def test_bf16_is_deprecated(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="use precision='bfloat16'"):
        config = TrainConfig(bf16=True)
    assert (config.precision, config.bf16) == ("bfloat16", False)
    with pytest.raises(InputError, match="precision must be one of auto, float32, bfloat16, float16, got 'half'"):
        TrainConfig(precision="half")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_fused_optimizers_are_equal_to_plain_ones(optimizer: str) -> None:
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        model = TinyDetector()
        made = schedule.make_optimizer(model, replace(QUICK, optimizer=optimizer))
        assert made.defaults["fused"]
        for group in made.param_groups:
            group["fused"] = fused
        for _ in range(20):
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            made.step()
        results.append([p.detach().clone() for p in model.parameters()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_precision(tmp_path: Path, precision: str) -> None:
    seen = []
    model = TinyDetector()
    model.backbone[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    train.fit(model, dataset(tmp_path), None, replace(QUICK, out=None, epochs=1, precision=precision), quiet=True)
    assert set(seen) == {getattr(torch, precision)}
