"""Pipelines of torchvision and albumentations as transforms."""

from __future__ import annotations

import contextlib
import random
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, require
from ...structures import Targets
from .base import Pair, clip_to_image
from .flips import mirror_order

MARKERS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))  # three points whose turning sense tells a mirror image


@dataclass(frozen=True, repr=False)
class _Adapted(ABC):
    """What both adapters share; a subclass runs the pipeline.

    The pipeline carries the row of each box, so that labels, keypoints and crowd follow the boxes that it keeps, and
    three marked points, which tell whether it has mirrored the image.
    """

    pipeline: Any
    pairs: tuple[tuple[int, int], ...] | None = None
    sets_size: bool = False
    maker: ClassVar[str]

    def __repr__(self) -> str:
        """The pipeline's own text, without addresses, so that it is the same in each process."""
        text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(self.pipeline).split()))
        return f"{self.maker}({text}, pairs={self.pairs}, sets_size={self.sets_size})"

    def __call__(self, image: Tensor, targets: Targets, generator: torch.Generator) -> Pair:
        """Return the changed image and targets."""
        keypoints = targets.keypoints
        points = torch.tensor(MARKERS)
        if keypoints is not None:
            points = torch.cat([points, keypoints[..., :2].reshape(-1, 2)])
        with _seeded(int(torch.randint(2**31 - 1, (), generator=generator))) as seed:
            changed, boxes, rows, moved = self._run(image, targets.boxes, points, seed)
        good = isinstance(changed, Tensor) and changed.dtype == torch.uint8 and changed.ndim == 3
        shown = f"{changed.dtype} {list(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
        require(good and changed.shape[0] == 3, f"pipeline must return a uint8 RGB image, got {shown}: leave out "
                                                "normalising, because the model does it")  # fmt: skip
        require(len(moved) == len(points), "pipeline must keep all keypoints, got fewer: leave out what removes them")
        whole = (boxes[:, 2:] > boxes[:, :2]).all(1)  # torchvision leaves boxes outside the image without area
        boxes, rows = boxes[whole], rows[whole]
        if keypoints is not None:
            keypoints = _follow(keypoints, moved, self.pairs)[rows]
        crowd = None if targets.crowd is None else targets.crowd[rows]
        kept = Targets(boxes, targets.labels[rows], keypoints, crowd)
        return changed.contiguous(), clip_to_image(kept, (changed.shape[1], changed.shape[2]), 0.0)

    @abstractmethod
    def _run(self, image: Tensor, boxes: Tensor, points: Tensor, seed: int) -> tuple[Any, Tensor, Tensor, Tensor]:
        """Return image, boxes [K, 4] that are left, the row that each had [K], and all points."""


def _follow(keypoints: Tensor, moved: Tensor, pairs: Sequence[tuple[int, int]] | None) -> Tensor:
    """Return ``keypoints`` [K, J, 3] at the places that the pipeline gave: ``moved`` [3 + K * J, 2], markers first.

    Both libraries mirror and turn points as indices of pixels, 0 to W - 1, but resize them as continuous coordinates.
    What is added here makes mirror images and quarter turns continuous too.
    """
    linear = (moved[1 : len(MARKERS)] - moved[0]).T  # the pipeline's 2x2 matrix
    seen = keypoints[..., 2:]
    places = moved[len(MARKERS) :].reshape(*keypoints.shape[:2], 2) + (linear.abs() - linear).sum(1) / 2
    keypoints = torch.cat([torch.where(seen > 0, places, 0.0), seen], dim=2)
    if torch.linalg.det(linear) < 0 and bool((seen > 0).any()):  # else there is nothing to swap
        keypoints = keypoints[:, mirror_order(keypoints.shape[1], pairs)]
    return keypoints


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[int]:
    """Seed the global generators of torch, Python and NumPy; restore them at the end."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield seed
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class _Torchvision(_Adapted):
    maker = "from_torchvision"

    def _run(self, image: Tensor, boxes: Tensor, points: Tensor, seed: int) -> tuple[Any, Tensor, Tensor, Tensor]:
        from torchvision import tv_tensors

        size = (image.shape[1], image.shape[2])
        sample = {
            "image": tv_tensors.Image(image),
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "labels": torch.arange(len(boxes)),
            "points": tv_tensors.KeyPoints(points, canvas_size=size),
        }
        changed = self.pipeline(sample)
        good = isinstance(changed, dict) and sample.keys() <= changed.keys()
        require(good, f"pipeline must return the dict that it is given, got {type(changed).__name__}")
        pixels, left, moved = (
            changed[name].as_subclass(Tensor) if isinstance(changed[name], Tensor) else changed[name]
            for name in ("image", "boxes", "points")
        )
        return pixels, left.float(), changed["labels"], moved.float()


class _Albumentations(_Adapted):
    maker = "from_albumentations"

    def _run(self, image: Tensor, boxes: Tensor, points: Tensor, seed: int) -> tuple[Any, Tensor, Tensor, Tensor]:
        self.pipeline.set_random_seed(seed)
        changed = self.pipeline(
            image=np.ascontiguousarray(image.permute(1, 2, 0).numpy()),
            bboxes=boxes.numpy(),
            rows=np.arange(len(boxes)),
            keypoints=points.numpy(),
        )
        pixels = changed["image"]
        if isinstance(pixels, np.ndarray) and pixels.ndim == 3:
            pixels = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
        left = torch.as_tensor(np.asarray(changed["bboxes"], dtype=np.float32).reshape(-1, 4))
        rows = torch.as_tensor(np.asarray(changed["rows"]).astype(np.int64).reshape(-1))
        return pixels, left, rows, torch.as_tensor(np.asarray(changed["keypoints"], dtype=np.float32)[:, :2])


def from_torchvision(
    pipeline: Any, pairs: Sequence[tuple[int, int]] | None = None, sets_size: bool = False
) -> _Adapted:
    """Return a transform that runs a ``torchvision.transforms.v2`` pipeline.

    Boxes, labels, keypoints and crowd follow the image. The pipeline draws its random numbers from the transform's
    generator, so that runs can be resumed. It must return a uint8 image: the model normalises.

    Args:
        pipeline: such as ``v2.Compose([...])``; it is called with a dict and returns one.
        pairs: of keypoints that swap in a mirror image, as for :class:`HorizontalFlip`.
        sets_size: whether the pipeline resizes images to the size to train on; a Faster R-CNN then only pads them.

    Raises:
        pyrcnn.InputError: if ``pipeline`` cannot be called, and when called, if it returns no uint8 RGB image or
            removes keypoints.

    Example::

        data.from_torchvision(v2.Compose([v2.RandomPhotometricDistort(), v2.RandomZoomOut(), v2.RandomIoUCrop()]))
    """
    require(callable(pipeline), f"pipeline must be of torchvision.transforms.v2, got {type(pipeline).__name__}")
    return _Torchvision(pipeline, _tuple(pairs), sets_size)


def from_albumentations(
    pipeline: Any, pairs: Sequence[tuple[int, int]] | None = None, sets_size: bool = False
) -> _Adapted:
    """Return a transform that runs an albumentations pipeline (version 2).

    Boxes, labels, keypoints and crowd follow the image; a ``Compose`` needs no ``bbox_params`` for that, but its
    ``min_area``, ``min_visibility``, ``min_width`` and ``min_height`` are used if it has them. The pipeline draws its
    random numbers from the transform's generator. It must return a uint8 image: the model normalises.

    Args:
        pipeline: an ``albumentations.Compose``, or one of its transforms.
        pairs: of keypoints that swap in a mirror image, as for :class:`HorizontalFlip`.
        sets_size: whether the pipeline resizes images to the size to train on; a Faster R-CNN then only pads them.

    Raises:
        pyrcnn.InputError: if albumentations is missing or ``pipeline`` is none of its own, and when called, if it
            returns no uint8 RGB image or removes keypoints.

    Example::

        data.from_albumentations(A.Compose([A.RandomRotate90(), A.RandomBrightnessContrast()]))
    """
    try:
        import albumentations as A
    except ImportError:
        raise InputError("pipeline needs albumentations: pip install albumentations") from None
    steps = pipeline.transforms if isinstance(pipeline, A.Compose) else [pipeline]
    good = all(isinstance(step, A.BasicTransform | A.BaseCompose) for step in steps)
    require(good and hasattr(A.Compose, "set_random_seed"),
            f"pipeline must be an albumentations.Compose of version 2 or one of its transforms, got "
            f"{type(pipeline).__name__} of {A.__version__}")  # fmt: skip
    of_boxes = getattr(pipeline, "processors", {}).get("bboxes")
    names = ("min_area", "min_visibility", "min_width", "min_height")
    limits = {name: getattr(of_boxes.params, name) for name in names} if of_boxes else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got processor for")  # a pipeline of colours moves no boxes
        composed = A.Compose(
            steps,
            bbox_params=A.BboxParams(format="pascal_voc", label_fields=["rows"], clip=True, **limits),
            keypoint_params=A.KeypointParams(format="xy", remove_invisible=False),
            p=pipeline.p if isinstance(pipeline, A.Compose) else 1.0,
        )
    return _Albumentations(composed, _tuple(pairs), sets_size)


def _tuple(pairs: Sequence[tuple[int, int]] | None) -> tuple[tuple[int, int], ...] | None:
    return None if pairs is None else tuple((left, right) for left, right in pairs)
