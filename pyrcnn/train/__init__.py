"""Training: :func:`fit`, its settings, and recipes that are known to work."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..data import CocoDataset
from ..errors import require
from .config import RECIPES, TrainConfig
from .loop import Result, Run


def fit(model: nn.Module, train_data: Any, val_data: CocoDataset | None = None, config: TrainConfig = TrainConfig(),
        *, quiet: bool = False) -> Result:  # fmt: skip
    """Train ``model``, score it on ``val_data`` during training, and return the :class:`Result`.

    The model ends in eval mode with its last weights, or with their running average if ``config.ema`` is set. A model
    with as many classes as the data set takes over the data set's class names and category ids.

    The folder ``config.out`` gets ``checkpoint.pt``, ``best.safetensors``, ``last.safetensors`` and ``metrics.jsonl``.
    A run that is resumed from ``checkpoint.pt`` ends with the same weights, bit for bit, as an uninterrupted one.
    Ctrl-C finishes the step, writes a checkpoint and raises ``KeyboardInterrupt``. A killed run loses at most
    ``config.checkpoint_minutes``.

    Args:
        model: a detector that returns a dict of losses from ``model(images, targets)``.
        train_data: ``train_data[i]`` is (image [3, H, W] uint8, :class:`~pyrcnn.Targets`), as from ``data.coco``.
        val_data: the data set to score on; None to train without scores.
        config: the settings.
        quiet: print neither progress nor scores.

    Raises:
        pyrcnn.InputError: before the first step, if model, data and settings do not fit together.
        FloatingPointError: if a loss is not finite any more.

    Example::

        train.fit(model, data.coco("images", "train.json"), config=train.TrainConfig(epochs=12, out="runs/first"))
    """
    if isinstance(train_data, CocoDataset):
        train_data = _with_labels_of_model(model, train_data)
    require(len(train_data) > 0, f"train_data must hold at least one image, got {len(train_data)}")
    return Run(model, train_data, val_data, config, quiet).go()


def _with_labels_of_model(model: nn.Module, data: CocoDataset) -> CocoDataset:
    """Return the data with the model's labels; a model with the same number of classes takes over the data's names."""
    learnable = sum(int((~record.crowd).sum()) for record in data.records)
    require(learnable > 0, f"train_data must hold at least one box that is not a crowd, got none.\n{data.report}")
    own: list[int] = list(getattr(model, "category_ids", ()))
    names = dict(zip(own, getattr(model, "classes", ()), strict=False))
    if len(own) in (0, len(data.category_ids)):
        model.category_ids, model.classes = list(data.category_ids), list(data.classes)  # type: ignore[assignment]
        return data
    same = all(names.get(i, "").lower() == c.lower() for i, c in zip(data.category_ids, data.classes, strict=True))
    count = len(data.classes)
    require(
        same,
        f"model must have the {count} classes of train_data, got {len(own)} others; build it with num_classes={count}",
    )
    return data.relabel(own, list(model.classes))  # type: ignore[arg-type]


__all__ = ["RECIPES", "Result", "TrainConfig", "fit"]
