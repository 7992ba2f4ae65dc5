"""How to train: the settings of :func:`pyrcnn.train.fit`, and settings that are known to work."""

from __future__ import annotations

from dataclasses import dataclass

from ..data import ColorJitter, HorizontalFlip, ScaleJitter, Transform, VerticalFlip
from ..errors import require


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one run; plain values, so that a checkpoint can tell which run it belongs to.

    A step is one update of the weights from ``batch_size * accumulate`` pictures.
    """

    out: str | None = "runs/train"  # folder for checkpoints, log and results; None writes nothing
    resume: bool = False  # continue the run in ``out``; a folder with a run in it is refused otherwise
    device: str = "cpu"
    epochs: float = 12.0
    batch_size: int = 8
    accumulate: int = 1  # batches per step
    optimizer: str = "adamw"  # or "sgd"
    learning_rate: float = 5e-4
    backbone_rate: float = 1.0  # the backbone's learning rate, as a multiple of ``learning_rate``
    weight_decay: float = 0.05  # of weights; biases and norms are never decayed
    momentum: float = 0.9  # sgd only
    schedule: str = "cosine"  # or "steps"
    milestones: tuple[float, ...] = (0.67, 0.92)  # "steps": fractions of the run after which the rate falls tenfold
    warmup: float = 0.03  # fraction of the run in which the rate rises
    warmup_from: float = 0.0  # where it rises from, as a fraction of the peak; 0: from next to nothing
    clip_norm: float = 10.0  # largest norm of all gradients together; 0: no limit
    ema: float = 0.0  # decay of the running mean of the weights, which is what is scored and saved; 0: none
    bf16: bool = False  # forward pass in bfloat16 where that is safe (autocast)
    channels_last: bool = False  # the model's memory format
    freeze_norm: bool = False  # the backbone's batch norms keep the statistics they come with
    augment: tuple[Transform, ...] = (HorizontalFlip(),)
    group_by_aspect: bool = True  # wide and tall pictures in batches of their own
    workers: int = 0  # processes that read and augment ahead
    seed: int = 0
    evaluate_every: float = 1.0  # epochs between scores on the validation data; 0: only at the end
    checkpoint_minutes: float = 5.0  # at most this much is lost when the process is killed
    log_every: int = 20  # steps between lines of the log

    def __post_init__(self) -> None:
        require(self.optimizer in ("adamw", "sgd"), f"optimizer must be adamw or sgd, got {self.optimizer!r}")
        require(self.schedule in ("cosine", "steps"), f"schedule must be cosine or steps, got {self.schedule!r}")
        for name in ("epochs", "batch_size", "accumulate", "learning_rate", "log_every"):
            require(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        for name in ("backbone_rate", "weight_decay", "clip_norm", "workers", "evaluate_every", "checkpoint_minutes"):
            require(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        require(0 <= self.ema < 1, f"ema must be in [0, 1), got {self.ema}")
        for name in ("warmup", "warmup_from"):
            require(0 <= getattr(self, name) < 1, f"{name} must be in [0, 1), got {getattr(self, name)}")


# Blood cells have no up, and under the microscope colour and scale vary little.
_FLIPS = (HorizontalFlip(), VerticalFlip())
_STAIN = ColorJitter(0.15, 0.15, 0.15)
_CELLS = (*_FLIPS, ScaleJitter(0.75, 1.5), _STAIN)

_ZOO = (HorizontalFlip(), ScaleJitter(0.6, 1.3), ColorJitter())

RECIPES: dict[str, TrainConfig] = {
    # Fine-tuning on a small data set, from a pretrained backbone or detector.
    "finetune": TrainConfig(epochs=30, ema=0.995, augment=(HorizontalFlip(), ScaleJitter(), ColorJitter())),
    # The embedded models: BCCD (205 pictures), from an ImageNet MobileNetV2, on one CPU core.
    "bccd_faster_rcnn": TrainConfig(
        epochs=14, batch_size=4, learning_rate=6e-4, ema=0.99, freeze_norm=True, augment=_CELLS,
        evaluate_every=5, checkpoint_minutes=3,
    ),
    # CenterNet first learns on pictures of a quarter of the area, where an epoch is cheap, then at its own size.
    "bccd_centernet_256": TrainConfig(
        epochs=40, batch_size=4, learning_rate=1e-3, ema=0.99, channels_last=True, evaluate_every=10,
        augment=(*_FLIPS, ScaleJitter(0.85, 2.2), _STAIN), checkpoint_minutes=3,
    ),
    "bccd_centernet": TrainConfig(
        epochs=6, batch_size=4, learning_rate=5e-4, ema=0.99, channels_last=True, evaluate_every=3,
        augment=(*_FLIPS, ScaleJitter(0.75, 1.4), _STAIN), checkpoint_minutes=3,
    ),
    # COCO from an ImageNet backbone, as the papers and torchvision do: SGD, 0.02 for 16 pictures.
    "coco_faster_rcnn": TrainConfig(
        epochs=26, batch_size=16, optimizer="sgd", learning_rate=0.02, weight_decay=1e-4, schedule="steps",
        milestones=(0.62, 0.85), warmup=0.003, bf16=True, workers=8, evaluate_every=2, checkpoint_minutes=15,
    ),
    "coco_centernet": TrainConfig(
        epochs=140, batch_size=32, learning_rate=1e-3, weight_decay=0.0, schedule="cosine", warmup=0.02, bf16=True,
        augment=(HorizontalFlip(), ScaleJitter(0.6, 1.3), ColorJitter()), workers=8, evaluate_every=5,
        checkpoint_minutes=15,
    ),
    # COCO as the TensorFlow 2 zoo trained its models: its batches, rates and steps; the augmentations are ours.
    # Hourglass at 1024 and the keypoint models (250k steps; Hourglass boxes at 1024: 50k, 54 epochs, warmup 0.1)
    "zoo_centernet": TrainConfig(
        epochs=270.5, batch_size=128, learning_rate=1e-3, weight_decay=0.0, warmup=5 / 250, warmup_from=0.25,
        clip_norm=0.0, augment=_ZOO, workers=8, evaluate_every=10, checkpoint_minutes=15,
    ),
    # Hourglass boxes at 512 and ResNet V1 boxes (140k steps)
    "zoo_centernet_steps": TrainConfig(
        epochs=151.5, batch_size=128, learning_rate=1e-3, weight_decay=0.0, warmup=0.0, schedule="steps",
        milestones=(90 / 140, 120 / 140), clip_norm=0.0, augment=_ZOO, workers=8, evaluate_every=10,
        checkpoint_minutes=15,
    ),
    "zoo_centernet_mobilenet": TrainConfig(
        epochs=324.6, batch_size=128, learning_rate=5e-3, weight_decay=0.0, warmup=5 / 300, warmup_from=0.02,
        clip_norm=0.0, augment=_ZOO, workers=8, evaluate_every=10, checkpoint_minutes=15,
    ),
    "zoo_faster_rcnn": TrainConfig(
        epochs=13.5, batch_size=64, optimizer="sgd", learning_rate=0.04, weight_decay=0.0, warmup=2 / 25,
        warmup_from=1 / 3, clip_norm=0.0, workers=8, evaluate_every=2, checkpoint_minutes=15,
    ),
}  # fmt: skip
