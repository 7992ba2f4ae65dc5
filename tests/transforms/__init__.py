"""Images with marked objects, to find again after a transform."""

from __future__ import annotations

import torch
from torch import Tensor

from pyrcnn import Targets
from pyrcnn.data.transforms import apply

HEIGHT, WIDTH = 60, 80
BOXES = ([30.0, 20.0, 50.0, 40.0], [4.0, 6.0, 16.0, 26.0], [60.0, 30.0, 76.0, 58.0])  # red, green, blue; apart
EMPTY = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def painted_image() -> tuple[Tensor, Targets]:
    """An image with a red, a green and a blue rectangle on black; the blue one is a crowd.

    Labels are the channels; each has keypoints at its upper left and upper right corner, and an unlabelled one.
    """
    image = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    keypoints = []
    for channel, (x1, y1, x2, y2) in enumerate(BOXES):
        image[channel, int(y1) : int(y2), int(x1) : int(x2)] = 255
        keypoints.append([[x1, y1, 2.0], [x2, y1, 1.0], [0.0, 0.0, 0.0]])
    crowd = torch.tensor([False, False, True])
    return image, Targets(torch.tensor(BOXES), torch.arange(3), torch.tensor(keypoints), crowd)


def run(transform, image: Tensor, targets: Targets, seed: int, other=None) -> tuple[Tensor, Targets]:
    """Apply one transform; ``other`` is what those that join images get."""
    generator = torch.Generator().manual_seed(seed)
    return apply((transform,), image, targets, generator, lambda: other or (image, targets))


def extent(channel: Tensor) -> Tensor | None:
    """The box of what is bright in [H, W], or None."""
    bright = (channel > 127).nonzero()
    if not len(bright):
        return None
    ys, xs = bright.unbind(1)
    return torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()
