"""Recipes for data sets of your own, those of the bundled models, and earlier ones for COCO."""

from __future__ import annotations

from ...data import ColorJitter, HorizontalFlip, ScaleJitter, VerticalFlip
from ..config import TrainConfig
from .base import Recipe

# Images of blood cells have no top, and under the microscope colour and scale vary little.
_FLIPS = (HorizontalFlip(), VerticalFlip())
_STAIN = ColorJitter(0.15, 0.15, 0.15)
_CELLS = (*_FLIPS, ScaleJitter(0.75, 1.5), _STAIN)

_ZOO = (HorizontalFlip(), ScaleJitter(0.6, 1.3), ColorJitter())

_SETTINGS: dict[str, TrainConfig] = {
    # Fine-tuning on a small data set, from a pretrained backbone or detector.
    "finetune": TrainConfig(epochs=30, ema=0.995, augment=(HorizontalFlip(), ScaleJitter(), ColorJitter())),
    # The bundled models: BCCD (205 images), from an ImageNet MobileNetV2, on one CPU core.
    "bccd_faster_rcnn": TrainConfig(
        epochs=14, batch_size=4, learning_rate=6e-4, ema=0.99, freeze_norm=True, augment=_CELLS,
        evaluate_every=5, checkpoint_minutes=3,
    ),
    # CenterNet trains on images of a quarter of the area first, where an epoch is cheap, then at full size.
    "bccd_centernet_256": TrainConfig(
        epochs=40, batch_size=4, learning_rate=1e-3, ema=0.99, channels_last=True, evaluate_every=10,
        augment=(*_FLIPS, ScaleJitter(0.85, 2.2), _STAIN), checkpoint_minutes=3,
    ),
    "bccd_centernet": TrainConfig(
        epochs=6, batch_size=4, learning_rate=5e-4, ema=0.99, channels_last=True, evaluate_every=3,
        augment=(*_FLIPS, ScaleJitter(0.75, 1.4), _STAIN), checkpoint_minutes=3,
    ),
    # COCO from an ImageNet backbone, as in the papers and torchvision: SGD with 0.02 for 16 images.
    "coco_faster_rcnn": TrainConfig(
        epochs=26, batch_size=16, optimizer="sgd", learning_rate=0.02, weight_decay=1e-4, schedule="steps",
        milestones=(0.62, 0.85), warmup=0.003, workers=8, evaluate_every=2, checkpoint_minutes=15,
    ),
    "coco_centernet": TrainConfig(
        epochs=140, batch_size=32, learning_rate=1e-3, weight_decay=0.0, schedule="cosine", warmup=0.02,
        augment=(HorizontalFlip(), ScaleJitter(0.6, 1.3), ColorJitter()), workers=8, evaluate_every=5,
        checkpoint_minutes=15,
    ),
    # COCO with the batch sizes, learning rates and steps of the TensorFlow 2 zoo; the augmentation is ours.
    # Hourglass at 1024 and the keypoint models: 250k steps. Hourglass boxes at 1024: 50k steps, 54 epochs, warmup 0.1.
    "zoo_centernet": TrainConfig(
        epochs=270.5, batch_size=128, learning_rate=1e-3, weight_decay=0.0, warmup=5 / 250, warmup_from=0.25,
        clip_norm=0.0, augment=_ZOO, workers=8, evaluate_every=10, checkpoint_minutes=15,
    ),
    # Hourglass boxes at 512 and ResNet V1 boxes: 140k steps.
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

_ABOUT = {
    "finetune": "a small data set of your own, from pretrained weights",
    "bccd_faster_rcnn": "the bundled Faster R-CNN: BCCD, from an ImageNet MobileNetV2",
    "bccd_centernet_256": "the bundled CenterNet at 256 pixels: BCCD, from an ImageNet MobileNetV2",
    "bccd_centernet": "the bundled CenterNet: BCCD, from bccd_centernet_256",
    "coco_faster_rcnn": "COCO, with bfloat16",
    "coco_centernet": "COCO, with bfloat16",
    "zoo_centernet": "the TensorFlow zoo's schedule of 250k steps with AdamW and simpler augmentation",
    "zoo_centernet_steps": "the TensorFlow zoo's schedule of 140k steps with AdamW and simpler augmentation",
    "zoo_centernet_mobilenet": "the TensorFlow zoo's schedule of 300k steps with AdamW and simpler augmentation",
    "zoo_faster_rcnn": "the TensorFlow zoo's schedule of 25k steps, in epochs of COCO",
}
GENERAL: dict[str, Recipe] = {name: Recipe(config, _ABOUT[name]) for name, config in _SETTINGS.items()}
