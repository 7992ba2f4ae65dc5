"""Batches for training. Batch number ``s`` depends on the seed and ``s`` only, not on the number of workers.

This makes runs resumable: batch ``s`` of a resumed run, augmentation included, is batch ``s`` of an uninterrupted run.
Each item draws its random numbers from a generator of its own, seeded by (seed, epoch, index).
"""

from __future__ import annotations

import logging
import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import InputError, require
from ..images import ImageError
from ..structures import Targets
from .coco import CocoDataset
from .transforms import Transform, apply

_log = logging.getLogger("pyrcnn.data")

Batch = tuple[list[Tensor], list[Targets]]


def collate(items: Sequence[tuple[Tensor, Targets]]) -> Batch:
    """Return (images, targets) as two lists; the images may have any sizes, and the model pads them into a batch."""
    return [image for image, _ in items], [targets for _, targets in items]


class BatchOrder(Sampler[list[tuple[int, int]]]):
    """Endless batches of (epoch, index), in a new random order each epoch.

    Batches are always full. The items left at the end of an epoch, fewer than a batch, are dropped; which ones differs
    from epoch to epoch. A data set smaller than a batch is repeated to fill it.

    Args:
        count: the number of items.
        batch_size: items per batch.
        seed: of the order.
        groups: one number per item. A batch holds items of one group, so that wide images are not padded to tall ones.
            The groups' remainders at the end of an epoch are batched together.
        start: the number of the first batch, to resume a run.

    Example:
        >>> order = BatchOrder(count=4, batch_size=2)
        >>> sorted(index for _, batch in zip(range(2), order) for _, index in batch)
        [0, 1, 2, 3]
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0, groups: Sequence[int] | None = None, start: int = 0):
        require(count > 0, f"count must be positive, got {count}: the data set is empty")
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
        generator = torch.Generator().manual_seed(_seed_from(self.seed, epoch))
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


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; a worker works on until the one that it works for has finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_Faults = list[tuple[int, ImageError]]  # index of the item, and why it cannot be read


class _Augmented(Dataset[tuple[Tensor, Targets, _Faults]]):
    def __init__(self, dataset: Any, transforms: Sequence[Transform], seed: int):
        self.dataset, self.transforms, self.seed = dataset, transforms, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Targets, _Faults]:
        epoch, index = key
        generator = torch.Generator().manual_seed(_seed_from(self.seed, epoch, index))
        (image, targets), faults = self._readable(index)

        def draw() -> tuple[Tensor, Targets]:
            item, more = self._readable(int(torch.randint(len(self.dataset), (), generator=generator)))
            faults.extend(more)
            return item

        return *apply(self.transforms, image, targets, generator, draw), faults

    def _readable(self, index: int) -> tuple[tuple[Tensor, Targets], _Faults]:
        """Return item ``index`` or, if its image cannot be read, the next one that can."""
        faults: _Faults = []
        count = len(self.dataset)
        for candidate in range(index, index + count):
            try:
                return self.dataset[candidate % count], faults
            except ImageError as error:
                faults.append((candidate % count, error))
        raise InputError(f"train_data must have an image that can be read, got {count} that cannot: {faults[0][1]}")


def _seed_from(*numbers: int) -> int:
    """Return a seed made from several numbers (FNV-1a over their 64 bits); nearby numbers give unrelated streams."""
    state = 0xCBF29CE484222325
    for number in numbers:
        for byte in (number & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little"):
            state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return state >> 1


def aspect_groups(dataset: Any) -> list[int]:
    """Return 1 for each image of a :class:`~pyrcnn.data.CocoDataset` that is at least as wide as tall, else 0."""
    return [int(record.size[1] >= record.size[0]) for record in dataset.records]


def _collate(items: Sequence[tuple[Tensor, Targets, _Faults]]) -> tuple[Batch, _Faults]:
    return collate([item[:2] for item in items]), [fault for *_, faults in items for fault in faults]


def _reported(loaded: Iterator[tuple[Batch, _Faults]], dataset: Any) -> Iterator[Batch]:
    """Yield the batches; tell ``dataset`` of each image that could not be read, in this process, not in a worker."""
    for batch, faults in loaded:
        for index, error in faults:
            if isinstance(dataset, CocoDataset):
                dataset.skip(index, error)
            else:
                _log.warning("%s; image skipped", error)
        yield batch


def batches(dataset: Any, batch_size: int, transforms: Sequence[Transform] = (), *, seed: int = 0, workers: int = 0,
            groups: Sequence[int] | None = None, start: int = 0) -> tuple[Iterator[Batch], int]:  # fmt: skip
    """Return (endless iterator over batches, batches per epoch).

    The next item of the data set takes the place of one whose image cannot be read; see :meth:`CocoDataset.skip`.

    Args:
        dataset: ``dataset[i]`` is (image [3, H, W] uint8, :class:`~pyrcnn.Targets`).
        batch_size: images per batch.
        transforms: the augmentation, applied in order.
        seed: of order and augmentation.
        workers: processes that read and augment ahead; 0 for none.
        groups: see :class:`BatchOrder`.
        start: the number of the first batch.
    """
    order = BatchOrder(len(dataset), batch_size, seed, groups, start)
    loader: DataLoader[Any] = DataLoader(
        _Augmented(dataset, transforms, seed), batch_sampler=order, num_workers=workers, collate_fn=_collate,
        pin_memory=torch.cuda.is_available(), persistent_workers=workers > 0, worker_init_fn=_ignore_interrupts,
        generator=torch.Generator().manual_seed(seed),  # else it draws from the global generator, which the model uses
    )  # fmt: skip
    return _reported(iter(loader), dataset), order.per_epoch
