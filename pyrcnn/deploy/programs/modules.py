"""Detectors as modules for ``torch.export``: from images or from pixels to padded detections."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...models.outputs import to_image_pixels
from .accept import ANY, Wanted, accept_images, accept_pixels

# The first operator decides which sizes a program takes. For torch.export all sizes of its input may vary: those of
# the example are larger than 1, and no two are equal.
EXAMPLE = (2, 3, 5, 7)


class Shape(NamedTuple):
    """The sizes of a program's input: ``batch`` images of ``height`` × ``width``, ``ANY`` where they may vary."""

    batch: int = ANY
    height: int = ANY
    width: int = ANY


class FromImages(nn.Module):
    """Images [N, 3, H, W] of one size → detections in the pixels of the images.

    ``model``: a detector whose networks were replaced.
    """

    names = ("images",)

    def __init__(self, model: Any, shape: Shape, channels_last: bool, isa: str):
        super().__init__()
        self.model, self.resizing = model, model.resizing()
        self.wanted = Wanted((shape.batch, 3, *shape[1:]), model.dtype, channels_last, model.device.type, isa)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """boxes [N, D, 4], scores [N, D], labels [N, D], counts [N] (and keypoints [N, D, J, 3])."""
        pixels, sizes, scales = accept_images(images, self.wanted, self.resizing)
        return tuple(to_image_pixels(self.model.predict_padded(pixels, sizes), sizes, scales))

    def example(self) -> tuple[Tensor, ...]:
        """Arguments of :meth:`forward`."""
        return (torch.zeros(*EXAMPLE, dtype=torch.uint8, device=self.model.device),)


class FromPixels(nn.Module):
    """Preprocessed pixels [N, 3, H, W] and sizes [N, 2] of the images in them → detections in these pixels.

    ``model``: a detector whose networks were replaced.
    """

    names = ("pixels", "sizes")

    def __init__(self, model: Any, shape: Shape, channels_last: bool, isa: str):
        super().__init__()
        self.model, self.multiple = model, model.size_multiple()
        self.wanted = Wanted((shape.batch, 3, *shape[1:]), model.dtype, channels_last, model.device.type, isa)

    def forward(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """boxes [N, D, 4], scores [N, D], labels [N, D], counts [N] (and keypoints [N, D, J, 3])."""
        return tuple(self.model.predict_padded(*accept_pixels(pixels, sizes, self.wanted, self.multiple)))

    def example(self) -> tuple[Tensor, ...]:
        """Arguments of :meth:`forward`."""
        device = self.model.device
        return torch.zeros(*EXAMPLE, device=device), torch.zeros(11, 13, dtype=torch.int64, device=device)


def program(module: FromImages | FromPixels) -> Any:
    """``module`` as a ``torch.export`` program that takes tensors of all sizes: its first operator refuses wrong ones.

    Sizes are checked there alone, so that every format refuses them with the same message.
    """
    example = module.example()
    any_size = tuple({d: torch.export.Dim.DYNAMIC for d in range(t.dim())} for t in example)
    with torch.no_grad():
        return torch.export.export(module, example, dynamic_shapes=any_size)
