"""What every detector shares: pictures in, detections or losses out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import require
from ..structures import Detections, Targets
from .labels import default_labels
from .outputs import PaddedDetections, PaddedPoses, trim
from .preprocess import load_images


class Detector(nn.Module, ABC):
    """A network between :meth:`fit`, which makes its input, and :meth:`predict_padded`, which runs it."""

    def __init__(self, config: Any):
        super().__init__()
        count = config.num_classes
        require(isinstance(count, int) and count > 0, f"num_classes must be a positive integer, got {count!r}")
        self.config = config
        self.classes, self.category_ids = default_labels(config.num_classes)

    def forward(self, images: Sequence[Any], targets: Sequence[Targets] | None = None) -> Any:
        """Pictures → list of :class:`Detections`; with ``targets`` → dict of losses, whatever the mode.

        ``images`` may be tensors [3, H, W] RGB of any sizes (uint8 0..255 or float 0..1), paths, PIL pictures or numpy
        arrays H x W x 3. ``targets``, one :class:`Targets` per picture, are in pixels of the pictures as given. Bad
        pictures and targets raise :class:`pyrcnn.InputError`.
        """
        return self.predict(images) if targets is None else self.loss(images, targets)

    def predict(self, images: Sequence[Any]) -> list[Detections]:
        """Detections in each picture's own pixels."""
        if len(images) == 0:
            return []
        pixels, sizes, scales = self.preprocess(images)  # [N, 3, H, W], [N, 2], [N, 2]
        return trim(self.predict_padded(pixels, sizes), sizes, scales)

    def preprocess(self, images: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures → normalised pixels [N, 3, H, W], sizes [N, 2] (h, w) in them, scales [N, 2] (y, x) new per old."""
        parameter = next(self.parameters())
        return self.fit([image.to(parameter.device) for image in load_images(images)], parameter.dtype)

    def loss(self, images: Sequence[Any], targets: Sequence[Targets]) -> dict[str, Tensor]:
        """Named losses, already weighted: their sum is what to minimise."""
        require(len(images) > 0, "images must hold at least one picture")
        require(len(images) == len(targets), f"targets must be one per image, got {len(targets)} for {len(images)}")
        for one in targets:
            require(isinstance(one, Targets), f"targets must hold pyrcnn.Targets, got {type(one).__name__}")
        return self.fitted_loss(*self.preprocess(images), targets)

    @abstractmethod
    def fit(self, images: list[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Loaded pictures [3, H, W] on the network's device → what :meth:`preprocess` returns."""

    @abstractmethod
    def predict_padded(self, pixels: Tensor, sizes: Tensor) -> PaddedDetections | PaddedPoses:
        """Detections of fixed shapes in the pixels of the network input."""

    @abstractmethod
    def fitted_loss(
        self, pixels: Tensor, sizes: Tensor, scales: Tensor, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """:meth:`loss` of what :meth:`preprocess` returned."""
