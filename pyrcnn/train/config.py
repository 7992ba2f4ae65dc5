"""The settings of :func:`pyrcnn.train.fit`."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass, fields
from numbers import Integral, Real
from types import NoneType
from typing import Any

from ..data import HorizontalFlip, Transform
from ..errors import require

# A field's type, as annotated → the types that are accepted, and what to call them.
_KINDS: dict[str, tuple[Any, str]] = {
    "str | None": ((str, os.PathLike, NoneType), "a path or None"),
    "str": (str, "a text"),
    "bool": (bool, "True or False"),
    "bool | str": ((bool, str), "True, False or 'auto'"),
    "float": (Real, "a number"),
    "int": (Integral, "an integer"),
    "tuple": ((tuple, list), "a tuple"),
}
OPTIMIZERS, PRECISIONS = ("adam", "adamw", "sgd"), ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one training run. They are plain values, so that a checkpoint can tell which run it belongs to.

    A step is one update of the weights, from ``batch_size * accumulate`` images. Processes that train together
    (``torchrun``, see :func:`pyrcnn.train.fit`) share these images: ``batch_size``, and with it the learning rate, do
    not depend on their number. For larger batches on more devices, multiply both by the same factor.

    Raises:
        pyrcnn.InputError: if a setting is out of range.

    Example:
        >>> TrainConfig(epochs=1, batch_size=4).learning_rate
        0.0005
    """

    out: str | None = "runs/train"  # folder of checkpoints, log and results; None to write nothing
    # continue the run in ``out``; "auto": if there is one to continue; False: ``out`` must not hold a run
    resume: bool | str = False
    overwrite: bool = False  # remove the files of another run in ``out`` first
    device: str = "cpu"  # or "cuda"; of several processes on a machine, each takes its own GPU
    epochs: float = 12.0  # passes over the training data
    steps: int = 0  # how many steps the run has, whatever ``epochs`` says; 0: as many as ``epochs`` are
    batch_size: int = 8  # images per batch, of all processes together
    accumulate: int = 1  # batches per step
    optimizer: str = "adamw"  # or "adam" or "sgd"
    learning_rate: float = 5e-4  # the peak of the schedule
    backbone_rate: float = 1.0  # the backbone's learning rate, as a multiple of ``learning_rate``
    weight_decay: float = 0.05  # of weights, not of biases and norms
    momentum: float = 0.9  # sgd only
    adam_epsilon: float = 1e-8  # adam and adamw only
    schedule: str = "cosine"  # or "steps"
    milestones: tuple[float, ...] = (
        0.67,
        0.92,
    )  # for "steps": fractions of the run after which the learning rate falls tenfold
    warmup: float = 0.03  # fraction of the run in which the learning rate rises
    warmup_from: float = 0.0  # the learning rate at the start, as a fraction of the peak; 0 for one step's share
    clip_norm: float = 10.0  # largest norm of all gradients together; 0 for no limit
    ema: float = 0.0  # decay of the weights' running average, which is scored and saved; 0 for no average
    # of the forward pass: "float32", "bfloat16", "float16" (GPUs only), or "auto": bfloat16 where it is fast
    precision: str = "auto"
    bf16: bool = False  # deprecated: precision="bfloat16"
    channels_last: bool | str = "auto"  # the model's memory format; "auto": where it is faster
    compile: bool = False  # compile the losses with torch.compile: slow at first, then faster on a GPU
    freeze_norm: bool = False  # the backbone's batch norms keep their initial statistics
    augment: tuple[Transform, ...] = (HorizontalFlip(),)  # applied in order; see pyrcnn.data
    group_by_aspect: bool = True  # wide and tall images in separate batches
    workers: int = 0  # processes that read and augment ahead, for each process that trains
    seed: int = 0  # of the order of images, augmentation and samples
    evaluate_every: float = 1.0  # epochs between scores on the validation data; 0 for the end only
    # the score that decides which weights are the best; "auto": keypoints_AP if keypoints are scored, else AP
    best_by: str = "auto"
    checkpoint_minutes: float = 5.0  # time between checkpoints: at most this is lost if the process is killed
    log_every: int = 20  # steps between entries of the log

    def __post_init__(self) -> None:
        for field in fields(self):
            value, (kinds, wanted) = getattr(self, field.name), _KINDS[str(field.type).partition("[")[0]]
            require(isinstance(value, kinds), f"{field.name} must be {wanted}, got {value!r}")
            finite = not isinstance(value, Real) or math.isfinite(value)
            require(finite, f"{field.name} must be finite, got {value}")
        if self.bf16:
            warnings.warn("TrainConfig.bf16 is deprecated, use precision='bfloat16'", DeprecationWarning, stacklevel=3)
            object.__setattr__(self, "precision", "bfloat16")
            object.__setattr__(self, "bf16", False)
        for name in ("resume", "channels_last"):
            value = getattr(self, name)
            require(value in (True, False, "auto"), f"{name} must be True, False or 'auto', got {value!r}")
        for name, known in (("optimizer", OPTIMIZERS), ("precision", PRECISIONS)):
            value = getattr(self, name)
            require(value in known, f"{name} must be one of {', '.join(known)}, got {value!r}")
        require(self.schedule in ("cosine", "steps"), f"schedule must be 'cosine' or 'steps', got {self.schedule!r}")
        for name in ("epochs", "batch_size", "accumulate", "learning_rate", "log_every"):
            require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        for name in ("backbone_rate", "weight_decay", "clip_norm", "workers", "evaluate_every", "checkpoint_minutes"):
            require(getattr(self, name) >= 0, f"{name} must be at least 0, got {getattr(self, name)}")
        require(self.steps >= 0, f"steps must be at least 0, got {self.steps}")
        require(self.adam_epsilon > 0, f"adam_epsilon must be positive, got {self.adam_epsilon}")
        require(0 <= self.ema < 1, f"ema must be in [0, 1), got {self.ema}")
        for name in ("warmup", "warmup_from"):
            require(0 <= getattr(self, name) < 1, f"{name} must be in [0, 1), got {getattr(self, name)}")
