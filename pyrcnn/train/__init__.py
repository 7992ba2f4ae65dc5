"""Training: ``fit`` and the settings that are known to work."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..data import CocoDataset
from ..errors import require
from .config import RECIPES, TrainConfig
from .loop import Result, Run


def fit(model: nn.Module, train_data: Any, val_data: CocoDataset | None = None, config: TrainConfig = TrainConfig(),
        *, quiet: bool = False) -> Result:  # fmt: skip
    """Train ``model`` and score it on ``val_data`` as it goes; the model ends with the last (averaged) weights.

    ``train_data[i]`` is (picture [3, H, W] uint8, :class:`~pyrcnn.Targets`), as ``data.coco`` gives it; a model
    with as many classes as the data set takes over its class names and category ids. In ``config.out``:
    ``checkpoint.pt`` (everything that resuming needs; a resumed run ends with the same weights, to the bit, as one that
    ran through), ``best.safetensors``, ``last.safetensors`` and ``metrics.jsonl``. Ctrl-C finishes the step, writes a
    checkpoint and raises ``KeyboardInterrupt``; a killed run loses at most ``checkpoint_minutes``.

    Raises :class:`~pyrcnn.InputError` before the first step when model, data and settings do not go together, and
    ``FloatingPointError`` when a loss is no longer finite.
    """
    if isinstance(train_data, CocoDataset):
        train_data = _agreed(model, train_data)
    require(len(train_data) > 0, "train_data is empty")
    return Run(model, train_data, val_data, config, quiet).go()


def _agreed(model: nn.Module, data: CocoDataset) -> CocoDataset:
    """The data with the labels that the model uses; a model with the same number of classes takes over the data's."""
    learnable = sum(int((~record.crowd).sum()) for record in data.records)
    require(learnable > 0, f"train_data has no box to learn from.\n{data.report}")
    own: list[int] = list(getattr(model, "category_ids", ()))
    names = dict(zip(own, getattr(model, "classes", ()), strict=False))
    if len(own) in (0, len(data.category_ids)):
        model.category_ids, model.classes = list(data.category_ids), list(data.classes)  # type: ignore[assignment]
        return data
    same = all(names.get(i, "").lower() == c.lower() for i, c in zip(data.category_ids, data.classes, strict=True))
    count = len(data.classes)
    require(same, f"model has {len(own)} classes and train_data other {count}: build it with num_classes={count}")
    return data.relabelled(own, list(model.classes))  # type: ignore[arg-type]


__all__ = ["RECIPES", "Result", "TrainConfig", "fit"]
