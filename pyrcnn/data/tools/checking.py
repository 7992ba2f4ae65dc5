"""Describes data sets and finds what is wrong with them."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...images import ImageError
from ..coco import CocoDataset

_SMALL, _MEDIUM = 32**2, 96**2  # COCO's limits of areas
_SAME = 0.9  # IoU from which on two objects of a class are taken for one
_QUANTILES = (0, 5, 50, 95, 100)


def check(dataset: CocoDataset, decode: bool = False, progress: Callable[[int], None] = lambda done: None) -> None:
    """Look for what opening a data set does not find; ``dataset.report`` gets it.

    Objects that are there twice (of one class and box), objects of one class whose boxes overlap with IoU > 0.9,
    classes without objects and, with ``decode``, images whose pixels cannot be decoded.
    """
    index, report = dataset.records, dataset.report
    for position in range(len(index)):
        objects = index.objects[position]
        same, near = _pairs(objects.boxes, objects.labels, objects.crowd)
        where = f"image {index.path(position)}"
        if same:
            report.add(where, f"{same} objects are copies of others", "copies kept", same)
        if near:
            report.add(where, f"{near} pairs of objects of one class overlap with IoU > {_SAME}", "noted", near)
        if decode:
            try:
                dataset.image(position)
            except ImageError as error:
                dataset.skip(position, error)
        progress(position + 1)
    used = {*dataset.used_labels()}
    for label, name in enumerate(dataset.classes):
        if label not in used:
            report.add(f"class {name}", "it has no object", "noted")


def _pairs(boxes: np.ndarray, labels: np.ndarray, crowd: np.ndarray) -> tuple[int, int]:
    """Return how many objects are copies of others, and how many other pairs nearly are."""
    if len(boxes) < 2:
        return 0, 0
    rows = np.concatenate([boxes, labels[:, None]], axis=1)
    _, first = np.unique(rows, axis=0, return_index=True)
    same = len(rows) - len(first)
    near = 0
    for label in np.unique(labels):
        some = first[(labels[first] == label) & ~crowd[first]]
        for start in range(0, len(some), 512):  # a bounded part of the matrix at a time
            a, b = boxes[some[start : start + 512], None], boxes[None, some]
            low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
            both = (high - low).clip(min=0).prod(-1)
            iou = both / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - both)
            later = np.arange(len(some))[None] > np.arange(start, start + len(a))[:, None]
            near += int(((iou > _SAME) & later).sum())
    return same, near


def find_copies(datasets: Sequence[CocoDataset]) -> list[list[Path]]:
    """Return the groups of image files with the same content, in one or in several data sets."""
    by_size: dict[int, set[Path]] = defaultdict(set)
    seen: dict[Path, int] = defaultdict(int)
    for dataset in datasets:
        for position in range(len(dataset)):
            path = Path(os.path.realpath(dataset.records.path(position)))
            seen[path] += 1
            by_size[path.stat().st_size].add(path)
    by_content: dict[bytes, list[Path]] = defaultdict(list)
    for paths in by_size.values():
        if len(paths) > 1:
            for path in sorted(paths):
                by_content[hashlib.sha256(path.read_bytes()).digest()].append(path)
    groups = [group for group in by_content.values() if len(group) > 1]
    together = {path for group in groups for path in group}
    return groups + [[path] * count for path, count in sorted(seen.items()) if count > 1 and path not in together]


def describe(dataset: CocoDataset) -> dict[str, Any]:
    """Return the numbers of a data set: images, objects, classes, sizes of images and boxes, and problems."""
    index, table = dataset.records, dataset.records.objects
    labels, boxes, areas = table.labels.numpy(), table.boxes.numpy(), table.areas.numpy()
    counts = np.diff(table.starts.numpy())
    images = np.repeat(np.arange(len(index)), counts)
    number = len(dataset.classes)
    pairs = np.unique(np.stack([images, labels]), axis=1)
    sizes = index.sizes.numpy()
    objects, with_class = np.bincount(labels, minlength=number), np.bincount(pairs[1], minlength=number)
    return {
        "source": dataset.report.source,
        "images": len(index),
        "images_without_objects": int((counts == 0).sum()),
        "objects": len(labels),
        "crowds": int(table.crowd.sum()),
        "objects_with_keypoints": len(table.posed),
        "classes": [{"id": i, "name": name, "objects": int(o), "images": int(n)} for i, name, o, n in
                    zip(dataset.category_ids, dataset.classes, objects, with_class, strict=True)],
        "image_width": _quantiles(sizes[:, 1]), "image_height": _quantiles(sizes[:, 0]),
        "image_sizes": len(np.unique(sizes, axis=0)),
        "objects_per_image": _quantiles(counts),
        "box_width": _quantiles(boxes[:, 2]), "box_height": _quantiles(boxes[:, 3]),
        "box_side": _quantiles(np.sqrt(boxes[:, 2] * boxes[:, 3])),
        "box_aspect": _quantiles(boxes[:, 2] / boxes[:, 3]),
        "areas": {"small": int((areas < _SMALL).sum()), "medium": int(((areas >= _SMALL) & (areas < _MEDIUM)).sum()),
                  "large": int((areas >= _MEDIUM).sum())},
        "problems": dict(dataset.report.counts),
    }  # fmt: skip


def _quantiles(values: np.ndarray) -> dict[str, float]:
    """Return the smallest, the 5th percentile, the median, the 95th percentile and the largest."""
    if not len(values):
        return {}
    found = np.percentile(values, _QUANTILES)
    return dict(zip(("min", "p5", "median", "p95", "max"), (round(float(v), 4) for v in found), strict=True))
