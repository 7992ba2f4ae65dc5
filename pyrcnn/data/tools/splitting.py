"""Splits a data set so that each part has its share of every class."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Sequence

import numpy as np

from ...errors import InputError, require
from .content import Content


def split(content: Content, fractions: Sequence[float], seed: int = 0, group: str | None = None) -> list[list[int]]:
    """Return the images of each part: positions in ascending order.

    Images are assigned class by class, the rarest first, to the part that lacks most objects of that class
    (Sechidis et al., On the Stratification of Multi-Label Data, 2011). The result depends on the seed and on the
    names and objects of the images only.

    Args:
        content: the data set.
        fractions: of the images in each part; their sum is 1.
        seed: of the order in which images are assigned.
        group: a regular expression; images for whose names without suffix it matches the same text stay together
            (the whole match, or its first group in parentheses). None: each image by itself.

    Raises:
        pyrcnn.InputError: for fractions that are not positive or whose sum is not 1, or a wrong expression.
    """
    good = all(0 <= f <= 1 for f in fractions) and abs(sum(fractions) - 1) < 1e-6
    require(good, f"--fractions must be numbers from 0 to 1 whose sum is 1, got {' '.join(map(str, fractions))}")
    groups = _groups(content, group)
    random.Random(seed).shuffle(groups)
    shares = np.array(fractions, dtype=np.float64)
    sizes = [len(members) for members in groups]
    counts = [np.unique(np.concatenate([content.labels(i) for i in members]), return_counts=True) for members in groups]
    total = np.zeros(len(content.categories), dtype=np.int64)
    for labels, found in counts:
        total[labels] += found
    wanted_images, wanted = shares * sum(sizes), total[:, None] * shares
    having: list[list[int]] = [[] for _ in total]
    for number, (labels, _) in enumerate(counts):
        for label in labels.tolist():
            having[label].append(number)
    place = [-1] * len(groups)
    for label in [*np.argsort(total, kind="stable").tolist(), None]:
        waiting = range(len(groups)) if label is None else having[label]
        for number in sorted((n for n in waiting if place[n] < 0), key=lambda n: -sizes[n]):
            lacking = wanted_images if label is None else wanted[label]
            order = np.lexsort((wanted_images, np.where(shares > 0, lacking, -np.inf)))
            best = int(order[-1])
            place[number] = best
            wanted_images[best] -= sizes[number]
            labels, found = counts[number]
            wanted[labels, best] -= found
    parts: list[list[int]] = [[] for _ in fractions]
    for number, members in enumerate(groups):
        parts[place[number]] += members
    return [sorted(part) for part in parts]


def _groups(content: Content, pattern: str | None) -> list[list[int]]:
    """Return the images that stay together, in an order that depends on their names only."""
    try:
        expression = None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group must be a regular expression, got {pattern!r} ({error})") from None
    found: dict[str, list[int]] = {}
    for position, item in sorted(enumerate(content), key=lambda pair: pair[1].name):
        stem = os.path.splitext(os.path.basename(item.name))[0]
        match = expression.match(stem) if expression else None
        key = f"/{position}" if match is None else match[1 if match.re.groups else 0] or ""
        found.setdefault(key, []).append(position)
    return list(found.values())
