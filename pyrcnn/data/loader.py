"""Batches for training: every one a pure function of (seed, step), whatever the number of workers.

That is what makes a run resumable: batch ``s`` of a resumed run is batch ``s`` of the uninterrupted one, augmentation
included, because each item draws from a generator of its own seeded by (seed, epoch, index).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import require
from ..structures import Targets
from .transforms import Transform, apply

Batch = tuple[list[Tensor], list[Targets]]


def collate(items: Sequence[tuple[Tensor, Targets]]) -> Batch:
    """Pictures of any sizes and their targets as two lists; the model batches them."""
    return [picture for picture, _ in items], [targets for _, targets in items]


class BatchOrder(Sampler[list[tuple[int, int]]]):
    """Endless batches of (epoch, index), shuffled anew each epoch, from batch number ``start`` on.

    ``groups`` (one number per item) keeps a batch within one group, so that wide pictures are not padded to tall
    ones; what is left over of the groups at the end of an epoch is batched together. Batches are always full: fewer
    than a batch's items are dropped, others each epoch, and a data set smaller than a batch is repeated to fill it.
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0, groups: Sequence[int] | None = None, start: int = 0):
        require(count > 0, "count must be positive: the data set is empty")
        require(batch_size > 0, f"batch_size must be positive, got {batch_size}")
        self.count, self.batch_size, self.seed, self.start = count, batch_size, seed, start
        self.groups = [0] * count if groups is None else list(groups)
        self.per_epoch = len(self._epoch(0))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, position = divmod(self.start, self.per_epoch)
        while True:
            yield from self._epoch(epoch)[position:]
            epoch, position = epoch + 1, 0

    def _epoch(self, epoch: int) -> list[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(_mixed(self.seed, epoch))
        waiting: dict[int, list[tuple[int, int]]] = defaultdict(list)
        batches = []
        for index in torch.randperm(self.count, generator=generator).tolist():
            group = waiting[self.groups[index]]
            group.append((epoch, index))
            if len(group) == self.batch_size:
                batches.append(group.copy())
                group.clear()
        rest = [item for group in sorted(waiting) for item in waiting[group]]
        batches += [rest[i : i + self.batch_size] for i in range(0, len(rest) - self.batch_size + 1, self.batch_size)]
        return batches or [(rest * self.batch_size)[: self.batch_size]]


class _Augmented(Dataset[tuple[Tensor, Targets]]):
    def __init__(self, dataset: Any, transforms: Sequence[Transform], seed: int):
        self.dataset, self.transforms, self.seed = dataset, transforms, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Targets]:
        epoch, index = key
        generator = torch.Generator().manual_seed(_mixed(self.seed, epoch, index))
        picture, targets = self.dataset[index]
        return apply(self.transforms, picture, targets, generator)


def _mixed(*numbers: int) -> int:
    """A seed from several numbers (FNV-1a over their 64 bits): nearby numbers give unrelated streams."""
    state = 0xCBF29CE484222325
    for number in numbers:
        for byte in (number & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little"):
            state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return state >> 1


def aspect_groups(dataset: Any) -> list[int]:
    """1 for each wide picture of a :class:`~pyrcnn.data.CocoDataset`, 0 for each tall one."""
    return [int(record.size[1] >= record.size[0]) for record in dataset.records]


def batches(dataset: Any, batch_size: int, transforms: Sequence[Transform] = (), *, seed: int = 0, workers: int = 0,
            groups: Sequence[int] | None = None, start: int = 0) -> tuple[Iterator[Batch], int]:  # fmt: skip
    """``(endless iterator over batches, batches per epoch)``, beginning with batch number ``start``.

    ``dataset[i]`` is (picture [3, H, W] uint8, Targets); ``workers`` processes read and augment ahead (0: none).
    """
    order = BatchOrder(len(dataset), batch_size, seed, groups, start)
    loader: DataLoader[Any] = DataLoader(
        _Augmented(dataset, transforms, seed), batch_sampler=order, num_workers=workers, collate_fn=collate,
        pin_memory=torch.cuda.is_available(), persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),  # otherwise it draws from the global one, which the model uses
    )  # fmt: skip
    return iter(loader), order.per_epoch
