"""Multi-scale training: the sizes that the augmentation draws reach the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pyrcnn import data, models, train
from tests.detector import dataset

SMALL = {
    "num_classes": 2, "fpn_channels": 8, "min_size": 64, "max_size": 128,
    "rpn": {"sizes": ((8,), (16,), (32,), (48,), (64,)), "before_nms": (50, 20), "after_nms": (20, 10)},
    "roi": {"width": 8, "samples": 8},
}  # fmt: skip


@pytest.mark.parametrize(("augment", "wanted"), [
    ("HorizontalFlip", {(64, 96)}),  # the model's own: 64 × 85, padded to multiples of 32
    ("ShortSide((96, 30), 200)", {(96, 128), (32, 64)}),
    ("LargeScaleJitter(0.5, 1.5, (160, 128))", {(160, 128)}),
])  # fmt: skip
def test_sizes_of_training_images(augment: str, wanted: set, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.build("faster_rcnn_mobilenet_v2_fpn", **SMALL)
    seen: dict[bool, set] = {True: set(), False: set()}
    model.backbone.register_forward_pre_hook(lambda m, x: seen[m.training].add(tuple(x[0].shape[-2:])))
    config = train.TrainConfig(steps=8, batch_size=1, out=None, learning_rate=1e-4, evaluate_every=0,
                               augment=data.parse_transforms(augment))  # fmt: skip
    d = dataset(tmp_path)
    train.fit(model, d, None, config, quiet=True)
    assert seen[True] == wanted
    model(d[0][0][None])
    assert seen[False] == {(64, 96)}  # inference resizes as always
    assert model.resizes_in_training


def test_images_keep_their_size_only_in_training() -> None:
    model = models.build("faster_rcnn_mobilenet_v2_fpn", **SMALL)
    model.resizes_in_training = False
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    pixels, sizes, scales = model.train().preprocess([image])
    assert (tuple(pixels.shape), sizes.tolist(), scales.tolist()) == ((1, 3, 64, 96), [[50, 70]], [[1, 1]])
    normalized = (image.float() / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    assert torch.allclose(pixels[0, :, :50, :70], normalized, atol=1e-5)
    assert (pixels[0, :, 50:] == 0).all()
    assert model.eval().preprocess([image])[1].tolist() == [[64, 89]]
