"""The images and objects of a data set, in a few large arrays.

The arrays are torch tensors: worker processes of a data loader share their memory, however they are started.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from .values import Id


class Object(NamedTuple):
    """One checked annotation. Its box is as in the file: it may reach outside the image."""

    name: str  # what the report calls it
    box: list[float]  # x, y, width, height
    label: int
    area: float  # in pixels
    crowd: bool
    keypoints: np.ndarray | None  # [J of the category, 3] float64; None if none is labelled


@dataclass(frozen=True)
class Objects:
    """The objects of one image as arrays; iterating gives each as :class:`Object`."""

    boxes: np.ndarray  # [G, 4] float64 x, y, width, height
    labels: np.ndarray  # [G] int64
    areas: np.ndarray  # [G] float64
    crowd: np.ndarray  # [G] bool
    keypoints: tuple[np.ndarray | None, ...]

    def __iter__(self) -> Iterator[Object]:
        columns = (self.boxes.tolist(), self.labels.tolist(), self.areas.tolist(), self.crowd.tolist(), self.keypoints)
        return (Object("", *values) for values in zip(*columns, strict=True))


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """All objects, grouped by image; ``table[i]`` are those of image ``i``."""

    boxes: Tensor  # [N, 4] float64 x, y, width, height, as in the file
    labels: Tensor  # [N] int32
    areas: Tensor  # [N] float64
    crowd: Tensor  # [N] bool
    starts: Tensor  # [images + 1] int64: objects of image i are starts[i] to starts[i + 1]
    posed: Tensor  # [P] int64, ascending: the objects with labelled keypoints
    pose_starts: Tensor  # [P + 1] int64, into ``poses``
    poses: Tensor  # [*, 3] float64 x, y, visibility

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, image: int) -> Objects:
        start, end = self.bounds(image)
        rows = slice(start, end)
        return Objects(self.boxes[rows].numpy(), self.labels[rows].numpy().astype(np.int64), self.areas[rows].numpy(),
                       self.crowd[rows].numpy(), self.keypoints(start, end))  # fmt: skip

    def bounds(self, image: int) -> tuple[int, int]:
        """Return the first object of an image and the one after its last."""
        start, end = self.starts[image : image + 2].tolist()
        return start, end

    def keypoints(self, start: int, end: int) -> tuple[np.ndarray | None, ...]:
        """Return the keypoints [J, 3] of objects ``start`` to ``end``; None where none is labelled."""
        found: list[np.ndarray | None] = [None] * (end - start)
        if len(self.posed):
            first, last = np.searchsorted(self.posed.numpy(), (start, end)).tolist()
            for p in range(first, last):
                a, b = self.pose_starts[p : p + 2].tolist()
                found[int(self.posed[p]) - start] = self.poses[a:b].numpy()
        return tuple(found)

    def rows_of(self, images: np.ndarray) -> np.ndarray:
        """Return the objects of some images, in their order."""
        starts = self.starts.numpy()
        return ranges(starts[images], starts[images + 1] - starts[images])

    def select(self, images: np.ndarray) -> ObjectTable:
        """Return the objects of some images, which may be repeated."""
        starts = self.starts.numpy()
        rows = self.rows_of(images)
        new_starts = np.concatenate([[0], np.cumsum(starts[images + 1] - starts[images])])
        number = np.full(len(self.boxes), -1, dtype=np.int64)
        number[self.posed.numpy()] = np.arange(len(self.posed))
        pose_of = number[rows]
        posed = np.flatnonzero(pose_of >= 0)
        old = self.pose_starts.numpy()
        lengths = np.diff(old)[pose_of[posed]]
        poses = ranges(old[:-1][pose_of[posed]], lengths)
        picked = torch.from_numpy(rows)
        return ObjectTable(
            self.boxes[picked], self.labels[picked], self.areas[picked], self.crowd[picked],
            torch.from_numpy(new_starts.astype(np.int64)), torch.from_numpy(posed),
            torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
            self.poses[torch.from_numpy(poses)],
        )  # fmt: skip

    def relabel(self, table: np.ndarray) -> ObjectTable:
        """Return the objects with ``table[label]`` for each label."""
        return replace(self, labels=torch.from_numpy(table.astype(np.int32))[self.labels.long()])

    def used_labels(self) -> list[int]:
        """Return the labels that have objects."""
        return self.labels.unique().tolist()


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return ``starts[0], starts[0] + 1, …`` for ``lengths[0]`` numbers, then those of the next start, and so on.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.cumsum(lengths) - lengths
    return (np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))).astype(np.int64)


@dataclass(frozen=True)
class Record:
    """One image: its file and its ground truth, boxes ``x1 y1 x2 y2`` in pixels."""

    path: Path
    image_id: Id
    size: tuple[int, int]  # height, width, as read
    oriented: bool  # apply the file's EXIF orientation
    boxes: np.ndarray  # [G, 4] float32, clipped to the image
    labels: np.ndarray  # [G] int64, index into the data set's classes
    crowd: np.ndarray  # [G] bool
    keypoints: tuple[np.ndarray | None, ...]  # G times [up to J, 3] float64; None if none is labelled
    objects: Objects  # as in the file, for scoring


@dataclass(frozen=True, eq=False)
class Index(Sequence[Record]):
    """The images of a data set and their objects; ``index[i]`` is made on demand."""

    paths: Tensor  # [*] uint8, all paths one after the other
    path_starts: Tensor  # [images + 1] int64
    ids: Tensor | list[Id]  # [images] int64, or a list if some are texts
    sizes: Tensor  # [images, 2] int32 height, width, as read
    oriented: Tensor  # [images] bool
    objects: ObjectTable
    clipped: Tensor  # [N, 4] float32 x1 y1 x2 y2 inside the image
    learnt: Tensor  # [N] bool: some part is inside the image

    @classmethod
    def of(cls, paths: Sequence[str], ids: Sequence[Id], sizes: Any, oriented: Any, objects: ObjectTable,
           clipped: np.ndarray, learnt: np.ndarray) -> Index:  # fmt: skip
        """Return the index of some images."""
        return cls(*_packed(paths), _ids(ids), torch.from_numpy(np.array(sizes, dtype=np.int32).reshape(-1, 2)),
                   torch.from_numpy(np.array(oriented, dtype=bool)), objects, torch.from_numpy(clipped),
                   torch.from_numpy(learnt))  # fmt: skip

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: Any) -> Any:
        """Return one image, or a list of some."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = self.position(index)
        boxes, labels, crowd, keypoints = self.targets(i)
        height, width = self.sizes[i].tolist()
        return Record(self.path(i), self.id(i), (height, width), bool(self.oriented[i]), boxes.numpy(), labels.numpy(),
                      crowd.numpy(), keypoints, self.objects[i])  # fmt: skip

    def position(self, index: int) -> int:
        """Return a position from 0 on for one that may count from the end. Raises ``IndexError``."""
        i = int(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"index {i} is out of range for {len(self)} images")
        return i % len(self)

    def targets(self, image: int) -> tuple[Tensor, Tensor, Tensor, tuple[np.ndarray | None, ...]]:
        """Return boxes, labels, crowd and keypoints of the objects to learn from, as in :class:`Record`."""
        start, end = self.objects.bounds(image)
        rows, keypoints = slice(start, end), self.objects.keypoints(start, end)
        learnt = self.learnt[rows]
        boxes, labels, crowd = self.clipped[rows], self.objects.labels[rows].long(), self.objects.crowd[rows]
        if bool(learnt.all()):
            return boxes, labels, crowd, keypoints
        kept = (k for k, keep in zip(keypoints, learnt.tolist(), strict=True) if keep)
        return boxes[learnt], labels[learnt], crowd[learnt], tuple(kept)

    def path(self, image: int) -> Path:
        """Return the file of an image."""
        start, end = self.path_starts[image : image + 2].tolist()
        return Path(os.fsdecode(self.paths[start:end].numpy().tobytes()))

    def id(self, image: int) -> Id:
        """Return the id of an image."""
        return self.ids[image] if isinstance(self.ids, list) else int(self.ids[image])

    def all_ids(self) -> list[Id]:
        """Return the ids of all images."""
        return list(self.ids) if isinstance(self.ids, list) else self.ids.tolist()

    def select(self, indices: Sequence[int] | np.ndarray) -> Index:
        """Return the images at ``indices``, with ids of their own if some are repeated."""
        images = np.array([self.position(i) for i in indices], dtype=np.int64)
        picked, rows = torch.from_numpy(images), torch.from_numpy(self.objects.rows_of(images))
        starts = self.path_starts.numpy()
        lengths = np.diff(starts)[images]
        letters = ranges(starts[images], lengths)
        ids = self.all_ids()
        return Index(
            self.paths[torch.from_numpy(letters)], _offsets(lengths), _ids([ids[i] for i in images.tolist()]),
            self.sizes[picked], self.oriented[picked], self.objects.select(images), self.clipped[rows],
            self.learnt[rows],
        ).with_own_ids()  # fmt: skip

    def with_own_ids(self) -> Index:
        """Return the images, numbered from 1 if two of them have the same id."""
        if len(set(self.all_ids())) == len(self):
            return self
        return replace(self, ids=torch.arange(1, len(self) + 1))

    def relabel(self, table: np.ndarray) -> Index:
        """Return the images with ``table[label]`` for each label."""
        return replace(self, objects=self.objects.relabel(table))


def join(parts: Sequence[Index]) -> Index:
    """Return the images of several data sets, with ids of their own if some are used twice."""
    tables = [part.objects for part in parts]
    counts, poses = [len(t.boxes) for t in tables], [len(t.poses) for t in tables]
    shifted = {
        "starts": _shifted([t.starts for t in tables], counts), "pose_starts": _shifted([t.pose_starts for t in tables],
        poses), "posed": torch.cat([t.posed + before for t, before in zip(tables, _before(counts), strict=True)]),
    }  # fmt: skip
    whole = {
        f.name: torch.cat([getattr(t, f.name) for t in tables]) for f in fields(ObjectTable) if f.name not in shifted
    }
    letters = [len(part.paths) for part in parts]
    return Index(
        torch.cat([p.paths for p in parts]), _shifted([p.path_starts for p in parts], letters),
        _ids([i for p in parts for i in p.all_ids()]), torch.cat([p.sizes for p in parts]),
        torch.cat([p.oriented for p in parts]), ObjectTable(**whole, **shifted),
        torch.cat([p.clipped for p in parts]), torch.cat([p.learnt for p in parts]),
    ).with_own_ids()  # fmt: skip


class ObjectsById(Mapping[Id, Objects]):
    """The objects of each image, by its id."""

    def __init__(self, table: ObjectTable, positions: Mapping[Id, int]):
        self.table, self.positions = table, positions

    def __getitem__(self, image_id: Id) -> Objects:
        return self.table[self.positions[image_id]]

    def __iter__(self) -> Iterator[Id]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)


def _packed(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    encoded = [os.fsencode(text) for text in texts]
    whole = np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8)
    return torch.from_numpy(whole), _offsets(np.array([len(e) for e in encoded], dtype=np.int64))


def _offsets(lengths: np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def _ids(ids: Sequence[Id]) -> Tensor | list[Id]:
    if all(type(i) is int and abs(i) < 2**63 for i in ids):
        return torch.tensor(ids, dtype=torch.int64)
    return list(ids)


def _before(counts: Sequence[int]) -> list[int]:
    return [sum(counts[:i]) for i in range(len(counts))]


def _shifted(starts: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    moved = [s[:-1] + before for s, before in zip(starts, _before(counts), strict=True)]
    return torch.cat([*moved, torch.tensor([sum(counts)])])
