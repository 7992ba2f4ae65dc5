"""What training exchanges with a detector: ground truth padded on the host, and losses as sums and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import require
from ..structures import Targets
from .labels import check_truth


class Truth(NamedTuple):
    """Ground truth of a batch without crowds; zeros pad the images to G boxes.

    ``boxes`` [N, G, 4] in pixels; ``labels`` [N, G]; ``counts`` [N] boxes of each image; ``keypoints`` [N, G, J, 3]
    (x, y, visibility); ``seeds`` [N] int64, from which each image draws its training samples.
    """

    boxes: Tensor
    labels: Tensor
    counts: Tensor
    keypoints: Tensor
    seeds: Tensor

    @property
    def real(self) -> Tensor:
        """Which boxes are no padding: [N, G] bool."""
        return torch.arange(self.boxes.shape[1], device=self.boxes.device) < self.counts[:, None]

    def scaled(self, factors: Tensor) -> Truth:
        """The same in other pixels; ``factors`` [N, 2] (y, x): new per old."""
        xy = factors.flip(-1).to(self.boxes.dtype)
        points = torch.cat([self.keypoints[..., :2] * xy[:, None, None], self.keypoints[..., 2:]], -1)
        return self._replace(boxes=self.boxes * xy.repeat(1, 2)[:, None], keypoints=points)


def pad_truth(
    targets: Sequence[Targets], num_classes: int, joints: int = 0, seeds: Tensor | None = None, multiple: int = 1
) -> Truth:
    """One :class:`Truth` on the host, in pixels of the images.

    Args:
        targets: one per image. Those on a GPU are copied to the host, which waits for it.
        num_classes: labels must be below it.
        joints: J; 0 ignores keypoints.
        seeds: [N] int64; None draws them from torch's global generator.
        multiple: G becomes a multiple of it, so that batches have few shapes.

    Raises:
        pyrcnn.InputError: for labels outside the classes and another number of joints.
    """
    on_host = [t.to("cpu") for t in targets]
    check_truth(on_host, num_classes)
    kept = [t if t.crowd is None else _rows(t, ~t.crowd) for t in on_host]
    images, most = len(kept), max([len(t) for t in kept] + [1])
    most = -(-most // multiple) * multiple
    boxes = torch.zeros(images, most, 4)
    labels = torch.zeros(images, most, dtype=torch.int64)
    keypoints = torch.zeros(images, most, joints, 3)
    for n, t in enumerate(kept):
        boxes[n, : len(t)] = t.boxes
        labels[n, : len(t)] = t.labels
        if joints and t.keypoints is not None:
            require(t.keypoints.shape[1] == joints, f"targets must have {joints} joints, got {t.keypoints.shape[1]}")
            keypoints[n, : len(t)] = t.keypoints
    counts = torch.tensor([len(t) for t in kept], dtype=torch.int64)
    return Truth(boxes, labels, counts, keypoints, torch.randint(2**62, (images,)) if seeds is None else seeds)


def _rows(t: Targets, keep: Tensor) -> Targets:
    return Targets(t.boxes[keep], t.labels[keep], None if t.keypoints is None else t.keypoints[keep])


class Term(NamedTuple):
    """A loss as the weighted sum ``total`` over ``samples`` things, by whose number it is divided.

    Processes that train together add up both before they divide.
    """

    total: Tensor
    samples: Tensor


def mean_losses(terms: Mapping[str, Term]) -> dict[str, Tensor]:
    """The losses of one batch; 0 where there is nothing to average over."""
    return {name: term.total / term.samples.clamp(min=1) for name, term in terms.items()}


_LOW = 0xFFFFFFFF


def random_keys(seeds: Tensor, count: int) -> Tensor:
    """Uniform numbers [N, count] in [0, 1) from ``seeds`` [N] int64.

    Number k of a row depends on the row's seed and k alone: not on the device, on other images of the batch or on
    ``count``. Source: C. Wellons, "Hash Prospector", the 32-bit hash ``lowbias32``.
    """
    low, high = (seeds & _LOW)[:, None], (seeds >> 32 & _LOW)[:, None]
    return (_hash(_hash(torch.arange(count, device=seeds.device) ^ low) ^ high) >> 8).float() * 2.0**-24


def _hash(x: Tensor) -> Tensor:
    """``lowbias32`` of int64 values below 2**32; no product leaves int64, so that compilers agree."""
    x = (x ^ x >> 16) * 0x7FEB352D & _LOW
    x = (x ^ x >> 15) * (0x846CA68B - 2**32) & _LOW
    return x ^ x >> 16
