"""What goes into a detector and what comes out: small dataclasses of tensors.

Conventions, said once. Boxes are ``x1 y1 x2 y2``, float, in pixels with continuous coordinates (a box that covers the
first pixel is ``0 0 1 1``). Sizes are ``(height, width)``. Labels count from 0 and know no background. Keypoints are
``x, y, visibility`` (0 unlabelled, 1 hidden, 2 visible) in targets and ``x, y, score`` in detections.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import require


def _floating(name: str, value: Tensor, columns: int) -> None:
    shape = f"[K, {columns}]"
    require(isinstance(value, Tensor), f"{name} must be a tensor {shape}, got {type(value).__name__}")
    require(value.ndim == 2 and value.shape[1] == columns, f"{name} must be {shape}, got {list(value.shape)}")
    require(value.is_floating_point(), f"{name} must be floating point, got {value.dtype}")


@dataclass(frozen=True)
class Targets:
    """The ground truth of one picture.

    ``boxes`` [K, 4] float, in pixels of the picture; ``labels`` [K] int64; ``keypoints`` [K, J, 3] or None;
    ``crowd`` [K] bool or None (COCO's ``iscrowd``: such boxes are never learnt from).
    """

    boxes: Tensor
    labels: Tensor
    keypoints: Tensor | None = None
    crowd: Tensor | None = None

    def __post_init__(self) -> None:
        for name, value in (("labels", self.labels), ("keypoints", self.keypoints), ("crowd", self.crowd)):
            given = isinstance(value, Tensor) or (value is None and name != "labels")
            require(given, f"{name} must be a tensor, got {type(value).__name__}")
        _floating("boxes", self.boxes, 4)
        count = self.boxes.shape[0]
        require(self.labels.shape == (count,), f"labels must be [{count}], got {list(self.labels.shape)}")
        require(not self.labels.is_floating_point(), f"labels must be integers, got {self.labels.dtype}")
        if self.keypoints is not None:
            shape = list(self.keypoints.shape)
            require(
                len(shape) == 3 and shape[0] == count and shape[2] == 3,
                f"keypoints must be [{count}, J, 3], got {shape}",
            )
        if self.crowd is not None:
            require(self.crowd.shape == (count,), f"crowd must be [{count}], got {list(self.crowd.shape)}")

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def to(self, *args: Any, **kwargs: Any) -> Targets:
        """Move every tensor to a device (``Tensor.to``'s arguments)."""
        return Targets(*(_moved(getattr(self, f.name), args, kwargs) for f in fields(self)))


@dataclass(frozen=True)
class Detections:
    """What a detector found in one picture, in descending score.

    ``boxes`` [M, 4] in pixels of the given picture; ``scores`` [M]; ``labels`` [M] int64; ``keypoints`` [M, J, 3]
    (x, y, score) or None. ``len(d)``, ``d[mask]`` and ``d[:5]`` work as one expects; ``d[i]``, and so each step of a
    loop, gives Detections of length 1.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    keypoints: Tensor | None = None

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __getitem__(self, index: Any) -> Detections:
        if isinstance(index, int | np.integer):
            index = range(len(self))[index]  # an IndexError past the end is also what ends a loop
            index = slice(index, index + 1)
        keypoints = None if self.keypoints is None else self.keypoints[index]
        return Detections(self.boxes[index], self.scores[index], self.labels[index], keypoints)

    def _values(self) -> list[Any]:
        return [getattr(self, f.name) for f in fields(self)]

    def to(self, *args: Any, **kwargs: Any) -> Detections:
        """Move every tensor to a device (``Tensor.to``'s arguments)."""
        return Detections(*(_moved(v, args, kwargs) for v in self._values()))

    def numpy(self) -> dict[str, np.ndarray]:
        """``{"boxes": …, "scores": …, "labels": …[, "keypoints": …]}`` as numpy arrays on the host."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: (v.float() if v.dtype == torch.bfloat16 else v).detach().cpu().numpy()
            for name, v in values.items()
            if v is not None
        }


def _moved(value: Tensor | None, args: Any, kwargs: Any) -> Any:
    return None if value is None else value.to(*args, **kwargs)
