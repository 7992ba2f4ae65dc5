"""The targets that a detector learns from and the detections that it returns.

Conventions of the whole package:

- Boxes are ``x1 y1 x2 y2``, floating point, in pixels with continuous coordinates: a box that covers exactly the first
  pixel is ``0 0 1 1``.
- Sizes are ``(height, width)``.
- Labels count from 0, without background.
- Keypoints are ``x, y, visibility`` in targets (0 not labelled, 1 hidden, 2 visible) and ``x, y, score`` in detections.
- Padding is at the bottom and right of an image, and at the end of a list.

Letters in shapes mean the same everywhere:

===== =====================================================================================================
N     images of a batch
C     channels of a feature map, or classes
H, W  height and width, of an image or a feature map
K     boxes or RoIs of an image, or of all images where each has an image index
L     levels of a feature pyramid
A     anchors per cell of a feature map (all anchors of an image are H * W * A)
P     proposals of an image
G     ground-truth boxes of an image
D     detections kept
J     keypoints of an object
===== =====================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, needing, require


def _floating(name: str, value: Tensor, columns: int) -> None:
    shape = f"[G, {columns}]"
    require(isinstance(value, Tensor), f"{name} must be a tensor {shape}, got {type(value).__name__}")
    require(value.ndim == 2 and value.shape[1] == columns, f"{name} must be {shape}, got {list(value.shape)}")
    require(value.is_floating_point(), f"{name} must be floating point, got {value.dtype}")


def _check_sides(boxes: Tensor, crowd: Tensor | None) -> None:
    """Raise :class:`pyrcnn.InputError` for boxes that are not finite or whose sides are not positive."""
    good = (boxes[:, 2:] > boxes[:, :2]).all(1) & boxes.isfinite().all(1)
    if crowd is not None:
        good |= crowd.to(boxes.device, torch.bool)
    if not bool(good.all()):
        row = int(good.int().argmin())
        raise InputError(
            f"boxes must be finite x1, y1, x2, y2 with x2 > x1 and y2 > y1, got {boxes[row].tolist()} in row {row}; "
            "ops.box_convert converts x, y, width, height"
        )


@dataclass(frozen=True)
class Targets:
    """The ground truth of one image.

    Args:
        boxes: [G, 4] floating point, x1 y1 x2 y2 in pixels of the image, with x2 > x1 and y2 > y1.
        labels: [G] int64, from 0.
        keypoints: [G, J, 3] x, y, visibility, or None.
        crowd: [G] bool, or None for no crowds. COCO's ``iscrowd``: training ignores these boxes.

    Raises:
        pyrcnn.InputError: for another shape or dtype, and for boxes that are not finite or have no positive sides. The
            values of crowd boxes are not checked, nor those of tensors on a GPU, which the host would wait for.

    Example:
        >>> len(Targets(boxes=torch.tensor([[10.0, 20.0, 50.0, 60.0]]), labels=torch.tensor([2])))
        1
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
        if count and self.boxes.device.type == "cpu":
            _check_sides(self.boxes.detach(), self.crowd)

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def to(self, *args: Any, **kwargs: Any) -> Targets:
        """Return the targets on another device; the arguments are those of ``Tensor.to``."""
        return Targets(*(_move(getattr(self, f.name), args, kwargs) for f in fields(self)))


@dataclass(frozen=True)
class Detections:
    """The detections of one image, in descending order of score.

    ``len(d)`` is their number D. ``d[mask]``, ``d[:5]`` and ``d[indices]`` select some; ``d[i]`` and each step of a
    loop are Detections of length 1.

    Args:
        boxes: [D, 4] floating point, x1 y1 x2 y2 in pixels of the image that was given to the model.
        scores: [D].
        labels: [D] int64, from 0; ``model.classes[label]`` is the name.
        keypoints: [D, J, 3] x, y, score, or None.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 2.0, 2.0]])
        >>> d = Detections(boxes, scores=torch.tensor([0.9, 0.2]), labels=torch.tensor([0, 1]))
        >>> d[d.scores > 0.5].boxes
        tensor([[0., 0., 4., 4.]])
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    keypoints: Tensor | None = None

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __getitem__(self, index: Any) -> Detections:
        if isinstance(index, int | np.integer):
            index = range(len(self))[index]  # raises IndexError past the end, which ends a loop
            index = slice(index, index + 1)
        keypoints = None if self.keypoints is None else self.keypoints[index]
        return Detections(self.boxes[index], self.scores[index], self.labels[index], keypoints)

    def _values(self) -> list[Any]:
        return [getattr(self, f.name) for f in fields(self)]

    def to(self, *args: Any, **kwargs: Any) -> Detections:
        """Return the detections on another device; the arguments are those of ``Tensor.to``."""
        return Detections(*(_move(v, args, kwargs) for v in self._values()))

    def to_supervision(self, classes: Sequence[str] | None = None) -> Any:
        """Return the boxes as ``supervision.Detections``: ``xyxy``, ``confidence``, ``class_id``.

        ``classes``, for example ``model.classes``, become ``data["class_name"]``. Raises :class:`pyrcnn.InputError` if
        supervision is missing or a label has no name.

        Example:
            >>> d = Detections(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([0.9]), torch.tensor([1]))
            >>> d.to_supervision(["cat", "dog"]).data["class_name"]  # doctest: +SKIP
            array(['dog'], dtype='<U3')
        """
        with needing("supervision", "to_supervision"):
            import supervision
        found = self.numpy()
        boxes, scores, labels = (found[name] for name in ("boxes", "scores", "labels"))
        return supervision.Detections(
            boxes.astype(np.float32), confidence=scores.astype(np.float32), class_id=labels.astype(int),
            data=_names(labels, classes),
        )  # fmt: skip

    def to_supervision_keypoints(self, classes: Sequence[str] | None = None) -> Any:
        """Return the keypoints as ``supervision.KeyPoints``: ``xy`` and the score of each keypoint; see above."""
        with needing("supervision", "to_supervision_keypoints"):
            import supervision
        found = self.numpy()
        require("keypoints" in found, "to_supervision_keypoints needs detections with keypoints")
        points, labels = found["keypoints"].astype(np.float32), found["labels"]
        return supervision.KeyPoints(
            points[..., :2], keypoint_confidence=points[..., 2], class_id=labels.astype(int),
            detection_confidence=found["scores"].astype(np.float32), data=_names(labels, classes),
        )  # fmt: skip

    @classmethod
    def from_supervision(cls, detections: Any) -> Detections:
        """Return ``supervision.Detections`` as Detections, in descending order of score.

        Masks, tracks and names are left out. Raises :class:`pyrcnn.InputError` if there are no scores or labels.
        """
        for name in ("xyxy", "confidence", "class_id"):
            given = getattr(detections, name, None) is not None
            require(given, f"detections must be supervision.Detections with {name}, got {type(detections).__name__}")
        order = np.argsort(-detections.confidence, kind="stable")
        boxes, scores = (np.asarray(a, np.float32)[order] for a in (detections.xyxy, detections.confidence))
        labels = np.asarray(detections.class_id, np.int64)[order]
        return cls(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(labels))

    def numpy(self) -> dict[str, np.ndarray]:
        """Return a dict of NumPy arrays: ``boxes``, ``scores``, ``labels``, and ``keypoints`` if there are any."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: (v.float() if v.dtype == torch.bfloat16 else v).detach().cpu().numpy()
            for name, v in values.items()
            if v is not None
        }


def _names(labels: np.ndarray, classes: Sequence[str] | None) -> dict[str, np.ndarray]:
    """The names of labels, as supervision keeps them."""
    if classes is None:
        return {}
    known = not len(labels) or (labels.min() >= 0 and labels.max() < len(classes))
    require(
        known, f"classes must have a name for each label, got {len(classes)} for labels up to {labels.max(initial=0)}"
    )
    return {"class_name": np.array([classes[label] for label in labels], dtype=str)}


def _move(value: Tensor | None, args: Any, kwargs: Any) -> Any:
    return None if value is None else value.to(*args, **kwargs)
