"""Batches for training. Batch number ``s`` depends on the seed and ``s`` only, not on the number of workers.

This makes runs resumable: batch ``s`` of a resumed run, augmentation included, is batch ``s`` of an uninterrupted run.
Each item draws its random numbers from a generator of its own, seeded by (seed, epoch, index). Processes that train
together share each batch: the batch does not depend on their number.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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
_STOPS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class SeededBatch(NamedTuple):
    """A batch with a random number ``seeds`` [N] int64 per image, which depends on (seed, epoch, index) alone."""

    images: list[Tensor]
    targets: list[Targets]
    seeds: Tensor


def collate(items: Sequence[tuple[Tensor, Targets]]) -> Batch:
    """Return (images, targets) as two lists; the images may have any sizes, and the model pads them into a batch.

    Args:
        items: (image [3, H, W], targets) pairs, for example of a ``torch.utils.data.DataLoader``.

    Example:
        >>> item = torch.zeros(3, 4, 4), Targets(torch.zeros(0, 4), torch.zeros(0).long())
        >>> images, targets = collate([item, item])
        >>> len(images), len(targets)
        (2, 2)
    """
    return [image for image, _ in items], [targets for _, targets in items]


class BatchOrder(Sampler[list[tuple[int, int]]]):
    """Endless batches of (epoch, index), in a new random order each epoch.

    All batches have the same size. The items left at the end of an epoch, fewer than a batch, are dropped; which ones
    differs from epoch to epoch. A data set smaller than a batch is one batch.

    Args:
        count: the number of items.
        batch_size: items per batch.
        seed: of the order.
        groups: one number per item. A batch holds items of one group, so that wide images are not padded to tall ones.
            The groups' remainders at the end of an epoch are batched together.
        start: the number of the first batch, to resume a run.
        part: (k, n): of each batch, every n-th item from item k on, for process k of n. A process that would get none
            gets the batch's first item.

    Raises:
        pyrcnn.InputError: if ``count`` or ``batch_size`` is not positive.

    Example:
        >>> order = BatchOrder(count=4, batch_size=2)
        >>> sorted(index for _, batch in zip(range(2), order) for _, index in batch)
        [0, 1, 2, 3]
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0, groups: Sequence[int] | None = None, start: int = 0,
                 part: tuple[int, int] = (0, 1)):  # fmt: skip
        require(count > 0, f"count must be positive, got {count}: the data set is empty")
        require(batch_size > 0, f"batch_size must be positive, got {batch_size}")
        self.count, self.batch_size, self.seed, self.start, self.part = count, batch_size, seed, start, part
        self.groups = [0] * count if groups is None else list(groups)
        self.per_epoch = len(self._epoch(0))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, position = divmod(self.start, self.per_epoch)
        first, step = self.part
        while True:
            yield from (batch[first::step] or batch[:1] for batch in self._epoch(epoch)[position:])
            epoch, position = epoch + 1, 0

    def _epoch(self, epoch: int) -> list[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(seed_from(self.seed, epoch))
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
        return batches or [rest]


def _serve(worker: int) -> None:
    """Let a worker live exactly as long as the process that it works for.

    A terminal sends Ctrl-C to every process, and batch systems SIGTERM: a worker works on until its parent has
    finished. Without the kernel's help, torch's workers would look every five seconds whether their parent lives.
    """
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    signal_at_end_of_parent(signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it ended before the call
        os._exit(1)


def signal_at_end_of_parent(number: int) -> None:
    """Let the kernel send a signal to this process when its parent ends, however that ends. Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """Return the loader's iterator; no signal reaches its workers before they have prepared for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # new processes inherit the mask
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_Faults = list[tuple[int, ImageError]]  # index of the item, and why it cannot be read


class _Augmented(Dataset[tuple[Tensor, Targets, int, _Faults]]):
    def __init__(self, dataset: Any, transforms: Sequence[Transform], seed: int):
        self.dataset, self.transforms, self.seed = dataset, transforms, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Targets, int, _Faults]:
        epoch, index = key
        generator = torch.Generator().manual_seed(seed_from(self.seed, epoch, index))
        (image, targets), faults = self._readable(index)

        def draw() -> tuple[Tensor, Targets]:
            item, more = self._readable(int(torch.randint(len(self.dataset), (), generator=generator)))
            faults.extend(more)
            return item

        found = apply(self.transforms, image, targets, generator, draw)
        return *found, seed_from(self.seed, epoch, index, 1), faults

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


def seed_from(*numbers: int) -> int:
    """Return a seed made from several numbers (FNV-1a over their 64 bits); nearby numbers give unrelated streams."""
    state = 0xCBF29CE484222325
    for number in numbers:
        for byte in (number & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little"):
            state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return state >> 1


def aspect_groups(dataset: Any) -> list[int]:
    """Return the groups by which images of one shape share batches, for :class:`BatchOrder`.

    Args:
        dataset: a :class:`~pyrcnn.data.CocoDataset`, which may be wrapped.

    Returns:
        1 for each image that is at least as wide as tall, else 0.

    Example::

        order = data.BatchOrder(len(train_data), 8, groups=data.aspect_groups(train_data))
    """
    heights, widths = dataset.records.sizes.unbind(1)
    return (widths >= heights).int().tolist()


def _collate(items: Sequence[tuple[Tensor, Targets, int, _Faults]]) -> tuple[SeededBatch, _Faults]:
    images, targets, seeds, faults = zip(*items, strict=True)
    return SeededBatch(list(images), list(targets), torch.tensor(seeds)), [fault for some in faults for fault in some]


def _reported(loaded: Iterator[tuple[SeededBatch, _Faults]], dataset: Any) -> Iterator[SeededBatch]:
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

    Returns:
        endless (list of images [3, H, W] uint8, list of :class:`~pyrcnn.Targets`), and the number of batches per epoch.

    Raises:
        pyrcnn.InputError: for an empty data set or a ``batch_size`` below 1, and later if no image can be read.

    Example::

        found, per_epoch = data.batches(train_data, 8, [data.HorizontalFlip()], workers=2)
        images, targets = next(found)
    """
    order = BatchOrder(len(dataset), batch_size, seed, groups, start)
    return ((b.images, b.targets) for b in seeded_batches(dataset, order, transforms, workers)), order.per_epoch


def seeded_batches(
    dataset: Any, order: BatchOrder, transforms: Sequence[Transform], workers: int
) -> Iterator[SeededBatch]:
    """Return the batches of :func:`batches` in this order, each with its seeds."""
    loader: DataLoader[Any] = DataLoader(
        _Augmented(dataset, transforms, order.seed), batch_sampler=order, num_workers=workers, collate_fn=_collate,
        pin_memory=torch.cuda.is_available(), persistent_workers=workers > 0,
        worker_init_fn=_serve,
        # else it draws from the global generator, which the model uses
        generator=torch.Generator().manual_seed(order.seed),
    )  # fmt: skip
    return _reported(_started(loader), dataset)
