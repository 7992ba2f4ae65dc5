"""Data sets that wrap others: their classes, and one data set in place of torch's ``Subset`` and ``ConcatDataset``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

from ..errors import require
from ..models.labels import match_classes
from ..structures import Targets
from ..texts import listed
from .coco import CocoDataset
from .index import join
from .report import Report


def as_coco(dataset: Any) -> CocoDataset | None:
    """Return a :class:`CocoDataset` with the items of ``dataset``; None if it cannot be expressed so.

    torch's ``Subset`` (also from ``random_split``) and ``ConcatDataset`` are unwrapped, in any nesting. Categories of
    joined data sets are found by name. Images get new ids if ids are used twice.

    Args:
        dataset: a data set of :mod:`pyrcnn.data`, which may be wrapped.

    Raises:
        pyrcnn.InputError: for joined data sets whose classes or keypoints differ.

    Example:
        >>> as_coco([1, 2, 3]) is None
        True
    """
    if isinstance(dataset, CocoDataset):
        return dataset
    if type(dataset) is Subset:
        inner = as_coco(dataset.dataset)
        return None if inner is None else inner.select([int(i) for i in dataset.indices])
    if type(dataset) is ConcatDataset:
        parts = [as_coco(part) for part in dataset.datasets]
        return None if None in parts else _joined(parts)  # type: ignore[arg-type]
    return None


def _joined(parts: Sequence[CocoDataset]) -> CocoDataset:
    first = parts[0]
    for part in parts[1:]:
        missing = part.without_counterpart(part.counterparts(first.category_ids, first.classes))
        require(not missing, f"data sets must have the same classes to be joined, got {listed(missing)} beside "
                             f"{listed(first.classes)}")  # fmt: skip
    skeletons = [names for part in parts if (names := part.keypoint_names)]
    require(
        all(names == skeletons[0] for names in skeletons),
        "data sets must have the same keypoints to be joined, got "
        + " beside ".join(f"{len(names)} ({listed(names, 3)})" for names in skeletons),
    )
    same = [part.relabel(first.category_ids, first.classes) for part in parts]
    records = join([part.records for part in same])
    categories = [next((c for c in beside if "keypoints" in c), beside[0])
                  for beside in zip(*(part.categories for part in same), strict=True)]  # fmt: skip
    pixels = [part.pixels for part in parts]
    whole: list[Tensor] | None = None if None in pixels else [p for some in pixels for p in some]  # type: ignore[union-attr]
    return CocoDataset(records, categories, Report.joined([part.report for part in parts]), pixels=whole)


def with_labels(dataset: Any) -> Any:
    """Return the items of ``dataset`` with ``classes`` and ``category_ids``, as far as its parts have them.

    It is a :class:`CocoDataset` if :func:`as_coco` makes one. The parts of another ``ConcatDataset`` get the labels of
    its first part, by name.

    Raises:
        pyrcnn.InputError: for joined data sets whose classes differ.
    """
    coco = as_coco(dataset)
    if coco is not None or type(dataset) is not ConcatDataset:
        return dataset if coco is None else coco
    parts = [with_labels(part) for part in dataset.datasets]
    (ids, names), *others = [labels_of(part) for part in parts]
    same = [parts[0]]
    for part, (part_ids, part_names) in zip(parts[1:], others, strict=True):
        found = match_classes(part_names, part_ids, names, ids)
        missing = [name for name, label in zip(part_names, found, strict=True) if label is None]
        require(
            not missing and bool(names) == bool(part_names),
            f"data sets must have the same classes to be joined, got {listed(missing) or 'none'} beside "
            f"{listed(names) or 'none'}",
        )
        same.append(Mapped(part, [label for label in found if label is not None] if names else None))
    joined = Mapped(ConcatDataset(same))
    if names:
        joined.category_ids, joined.classes = ids, names
    return joined


def labels_of(dataset: Any) -> tuple[list[int | str], list[str]]:
    """Return ``category_ids`` and ``classes`` of a data set or of the one that it wraps; empty lists if unknown."""
    for _ in range(100):  # wrappers in wrappers
        ids, names = getattr(dataset, "category_ids", None), getattr(dataset, "classes", None)
        if ids is not None and names is not None:
            return list(ids), [str(name) for name in names]
        if (dataset := getattr(dataset, "dataset", None)) is None:
            break
    return [], []


class Mapped(Dataset[tuple[Tensor, Targets]]):
    """A data set with other labels, and without keypoints if they are not wanted.

    Args:
        dataset: ``dataset[i]`` is (image, targets).
        table: the new label of each label; None to keep the labels.
        keypoints: False to leave keypoints out.
    """

    category_ids: list[Any] | None = None
    classes: list[str] | None = None

    def __init__(self, dataset: Any, table: Sequence[int] | None = None, keypoints: bool = True):
        self.dataset, self.keypoints = dataset, keypoints
        self.table = None if table is None else torch.tensor(table)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
        image, targets = self.dataset[index]
        kind = type(targets).__name__
        require(isinstance(targets, Targets), f"data set items must be (image, pyrcnn.Targets), got targets of {kind}")
        labels = targets.labels if self.table is None else self.table[targets.labels]
        return image, replace(targets, labels=labels, keypoints=targets.keypoints if self.keypoints else None)
