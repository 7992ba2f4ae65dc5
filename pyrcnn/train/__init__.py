"""Training: :func:`fit`, its settings, and recipes that are known to work."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import require
from ..models import unwrap
from . import labels, recipes
from .config import TrainConfig
from .loop import Result, Run
from .recipes import RECIPES


def fit(model: nn.Module, train_data: Any, val_data: Any = None, config: TrainConfig = TrainConfig(),
        *, quiet: bool = False) -> Result:  # fmt: skip
    """Train ``model``, score it on ``val_data`` during training, and return the :class:`Result`.

    The model ends in eval mode with its last weights, or with their running average if ``config.ema`` is set.

    Classes are joined by name. A model with as many classes as the data set takes over its names and category ids;
    classes that it had already keep their labels, so that their weights stay theirs in whatever order the data set
    lists them. A model with more classes keeps its own. A detector without keypoints ignores those of the data.

    The folder ``config.out`` gets ``checkpoint.pt``, ``best.safetensors``, ``last.safetensors`` and ``metrics.jsonl``.
    A run that is resumed from ``checkpoint.pt`` ends with the same weights, bit for bit, as an uninterrupted one.
    Ctrl-C finishes the step, writes a checkpoint and raises ``KeyboardInterrupt``. A killed run loses at most
    ``config.checkpoint_minutes``.

    Args:
        model: a detector that returns a dict of losses from ``model(images, targets)``. It may be wrapped
            (``torch.compile``, ``DataParallel``, ``AveragedModel``): the inner model is trained, without compilation.
            The losses come from the wrapper if it is ``DataParallel`` or ``DistributedDataParallel``.
        train_data: ``train_data[i]`` is (image [3, H, W] uint8, :class:`~pyrcnn.Targets`), as from ``data.coco``. The
            classes of other data sets are known if they, or the data set in their attribute ``dataset``, have
            ``classes`` and ``category_ids``.
        val_data: the data set to score on, from ``data.coco``, or a ``Subset`` or ``ConcatDataset`` of such; None to
            train without scores.
        config: the settings.
        quiet: print neither progress nor scores.

    Raises:
        pyrcnn.InputError: before the first step, if model, data and settings do not fit together.
        FloatingPointError: if a loss is not finite any more.

    Example::

        train.fit(model, data.coco("images", "train.json"), config=train.TrainConfig(epochs=12, out="runs/first"))
    """
    require(isinstance(model, nn.Module), f"model must be a detector, got {type(model).__name__}")
    for name, given in (("train_data", train_data), ("val_data", val_data)):
        good = (hasattr(given, "__len__") and hasattr(given, "__getitem__")) or (given is None and name == "val_data")
        require(good, f"{name} must be a data set, as from data.coco, got {type(given).__name__}")
    require(isinstance(config, TrainConfig), f"config must be a TrainConfig, got {type(config).__name__}")
    require(len(train_data) > 0, f"train_data must hold at least one image, got {len(train_data)}")
    own = unwrap(model)
    train_data, val_data = labels.join(own, train_data, val_data)
    own.resizes_in_training = not any(getattr(t, "sets_size", False) for t in config.augment)  # type: ignore[assignment]
    try:
        return Run(model, train_data, val_data, config, quiet).go()
    finally:
        own.resizes_in_training = True  # type: ignore[assignment]


__all__ = ["RECIPES", "Result", "TrainConfig", "fit", "recipes"]
