"""Training: :func:`fit`, its settings, and recipes that are known to work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ..errors import require
from ..models import unwrap
from . import distributed, labels, recipes
from .alternating import fit_alternating
from .config import TrainConfig
from .events import EvaluationEvent, Hooks, StepEvent
from .loop import Result, Run
from .recipes import RECIPES


def fit(model: nn.Module, train_data: Any, val_data: Any = None, config: TrainConfig = TrainConfig(),
        *, quiet: bool = False, on_step: Callable[[StepEvent], Any] | None = None,
        on_evaluation: Callable[[EvaluationEvent], Any] | None = None,
        about: Mapping[str, Any] | None = None) -> Result:  # fmt: skip
    """Train ``model``, score it on ``val_data`` during training, and return the :class:`Result`.

    The model ends in eval mode with its last weights, or with their running average if ``config.ema`` is set.

    Classes are joined by name. A model with as many classes as the data set takes over its names and category ids;
    classes that it had already keep their labels, so that their weights stay theirs in whatever order the data set
    lists them. A model with more classes keeps its own. A detector without keypoints ignores those of the data.

    The folder ``config.out`` gets

    - ``best.safetensors``, ``last.safetensors``: the weights, for :func:`pyrcnn.load_model`;
    - ``metrics.jsonl``, ``metrics.csv``: losses, learning rate, scores, AP of each class;
    - ``curves.png``: the same as curves, drawn anew after each evaluation;
    - ``first_batches.jpg``: the first images as the model gets them, with their targets;
    - ``config.json``: settings, versions, machine, data sets, the model's configuration;
    - ``checkpoint.pt``: what resuming needs;
    - ``tensorboard/``: the metrics for TensorBoard, if that is installed.

    A run that is resumed from ``checkpoint.pt`` ends with the same weights, bit for bit, as an uninterrupted one.
    Ctrl-C finishes the step, or ends the validation, writes a checkpoint and raises ``KeyboardInterrupt``. A killed run
    loses at most ``config.checkpoint_minutes``. A run may be resumed with more ``epochs``; its schedule then has the
    new length.

    Several processes train together if ``torchrun`` starts the program that calls ``fit``, or the command line::

        torchrun --nproc-per-node 4 -m pyrcnn train MODEL --device cuda …
        torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29400 --rdzv-id first \
            --max-restarts 3 train.py

    Each takes a GPU of its machine (gloo connects processes on CPUs) and a part of every batch, of any size. Losses,
    gradients and weights are those of one process with the same ``batch_size``, up to rounding: losses are divided by
    the number of objects or samples in the whole batch, and an image draws its training samples from (seed, epoch,
    image). Dropout is an exception, and so are batch norms that learn statistics: on GPUs they take those of the whole
    batch (``SyncBatchNorm``), on CPUs those of each process, unless ``config.freeze_norm`` is set. The first process
    scores, prints and writes; all of them return the result.

    When ``torchrun --max-restarts`` starts the processes again, on as many machines as are left, they continue from the
    last checkpoint. ``config.out`` must then be a folder that all machines share.

    Args:
        model: a detector that returns a dict of losses from ``model(images, targets)``: means over the images, if it is
            not one of this package. It may be wrapped (``torch.compile``, ``DataParallel``, ``AveragedModel``): the
            inner model is trained, without compilation. The losses come from the wrapper if it is ``DataParallel``.
            Of several processes, each gives the detector itself; the first one's weights count.
        train_data: ``train_data[i]`` is (image [3, H, W] uint8, :class:`~pyrcnn.Targets`), as from ``data.coco``. The
            classes of other data sets are known if they, or the data set in their attribute ``dataset``, have
            ``classes`` and ``category_ids``.
        val_data: the data set to score on, from ``data.coco``, or a ``Subset`` or ``ConcatDataset`` of such; None to
            train without scores.
        config: the settings.
        quiet: print neither progress nor scores.
        on_step: called each ``config.log_every`` steps with a :class:`StepEvent`: step, learning rate, mean losses.
        on_evaluation: called after each evaluation with an :class:`EvaluationEvent`: scores, and whether they are the
            best. An exception of a callback ends the run. Of several processes, the first one calls both.
        about: more entries for ``config.json``, such as what the model started from.

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
    world = distributed.join(config.device)
    own = unwrap(model)
    train_data, val_data = labels.join(own, train_data, val_data)
    own.resizes_in_training = not any(getattr(t, "sets_size", False) for t in config.augment)  # type: ignore[assignment]
    try:
        run = Run(model, train_data, val_data, config, quiet, world)
        if world.first:
            run.hooks = Hooks(on_step, on_evaluation, about or {})
        return run.go()
    finally:
        own.resizes_in_training = True  # type: ignore[assignment]


__all__ = [
    "RECIPES",
    "EvaluationEvent",
    "Result",
    "StepEvent",
    "TrainConfig",
    "fit",
    "fit_alternating",
    "recipes",
]
