"""A CenterNet with a backbone of our own: builds it, trains it, saves, exports and runs it.

python examples/shapes.py shapes
python examples/add_model.py shapes [--epochs 30]
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

import pyrcnn
from pyrcnn import checkpoints, data, deploy, evaluate, models, train
from pyrcnn.models.backbones import BACKBONES

SIDE = 128  # pixels of the network's input


class Slim(nn.Module):
    """Pixels [N, 3, H, W] to four feature maps, finest first, each half as wide and high as the one before."""

    def __init__(self, norm_eps: float = 1e-3, norm_momentum: float = 0.03):  # fields of the configuration, by name
        super().__init__()
        self.channels = [16, 32, 64, 96]
        self.strides = [4, 8, 16, 32]
        self.size_multiple = 32
        widths = [3, 16, *self.channels]

        def stage(before: int, after: int) -> nn.Sequential:
            norm = nn.BatchNorm2d(after, norm_eps, norm_momentum)
            return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), norm, nn.ReLU(inplace=True))

        self.layers = nn.ModuleList(stage(before, after) for before, after in pairwise(widths))

    @property
    def stages(self) -> list[nn.Module]:
        """What ``trainable_layers`` counts, lowest first."""
        return list(self.layers)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps of the last four stages."""
        maps = [pixels]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps[2:]


BACKBONES["slim"] = Slim


def main(folder: Path, epochs: int) -> None:
    """Build, train, evaluate, save, export and run."""
    torch.manual_seed(0)
    shapes = data.coco(folder / "images", folder / "shapes.json")
    model = models.build("centernet_mobilenet_v2_fpn_512", backbone="slim", num_classes=3, input_size=SIDE,
                         norm_momentum=0.03, neck_momentum=0.03, head_width=64)  # fmt: skip
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")

    config = train.TrainConfig(epochs=epochs, batch_size=16, learning_rate=4e-3, out=None, log_every=20)
    train.fit(model, shapes, config=config)
    print(f"AP50 on the images that it learned from: {evaluate.coco(model.eval(), shapes)['AP50']:.2f}")

    checkpoints.save(model, "slim.safetensors", overwrite=True)  # load_model finds the backbone once it is registered
    image, _ = shapes[0]
    found = pyrcnn.load_model("slim.safetensors")([image])[0]
    print(f"saved and loaded: best score {found.scores[0]:.2f}")

    deploy.export(model, "slim.pt2", overwrite=True)
    _, scores, _, _ = torch.export.load("slim.pt2").module()(image[None])
    torch.testing.assert_close(scores[0, 0], found.scores[0], atol=1e-4, rtol=0)
    print("exported: the same score")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    main(options.folder, options.epochs)
