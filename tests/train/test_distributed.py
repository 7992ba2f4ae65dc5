"""Several processes that train together get the weights that one process gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from .processes import finish, run, start, unlike

FAMILIES = ("faster_rcnn", "centernet")


def cases(out: Path, **more: Any) -> list[dict[str, Any]]:
    """Return one case per family, and the tiny model with validation, whose batch norm learns."""
    found = [{"model": name, **more} for name in FAMILIES]
    found.append({"model": "tiny", "files": True, "talks": True, "config": {"epochs": 2, "freeze_norm": False,
                                                                           "batch_size": 4, "ema": 0.9}})  # fmt: skip
    for case in found:
        case["out"] = str(out / case["model"])
        Path(case["out"]).mkdir(parents=True)
    return found


def weights(case: dict[str, Any], rank: int = 0) -> dict[str, torch.Tensor]:
    return torch.load(Path(case["out"]) / f"{rank}.pt")["weights"]


@pytest.mark.parametrize("epochs", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_two_processes_train_as_one(tmp_path: Path, epochs: int) -> None:
    """Steps of 5 images (3 and 2) of several sizes, some without objects; then validation with two processes."""
    shared = cases(tmp_path / "two", config={"epochs": epochs})
    processes = start(shared, 2)
    alone = cases(tmp_path / "one", config={"epochs": epochs})
    for case in alone:
        run(case)
    printed = finish(processes)
    for one, two in zip(alone[:2], shared[:2], strict=True):
        assert torch.load(Path(one["out"]) / "0.pt")["steps"] == 2 * epochs
        assert unlike(weights(two, 0), weights(two, 1)) == 0
        assert unlike(weights(one), weights(two)) <= 1e-6
    tiny = shared[2]
    both = [torch.load(Path(tiny["out"]) / f"{rank}.pt") for rank in (0, 1)]
    assert both[0]["scores"] == both[1]["scores"]
    assert both[0]["scores"].keys() == torch.load(Path(alone[2]["out"]) / "0.pt")["scores"].keys()
    said = " ".join(printed[0].split())  # in lines of the terminal's width
    assert "4 images per batch of 2 processes; batch norms use the images of one process" in said
    assert "step" not in printed[1]
    lines = [json.loads(line) for line in (Path(tiny["out"]) / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "val_AP" in line] == [1, 2]
