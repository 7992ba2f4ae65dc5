"""Where the other images of a mosaic come from: any of the data set, by seed, epoch and index."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from pyrcnn import data
from tests.detector import dataset


def test_batches_draw_other_images_by_seed_epoch_and_index(tmp_path: Path) -> None:
    d = dataset(tmp_path)
    transforms = (data.HorizontalFlip(), data.Mosaic(0.7, (40, 40)), data.MixUp(), data.ScaleJitter())

    def keys(**options) -> list:
        batches, _ = data.batches(d, 2, transforms, seed=1, **options)
        return [
            [(i.sum().item(), t.boxes.tolist()) for i, t in zip(*batch, strict=True)] for batch in islice(batches, 7)
        ]

    first = keys()
    assert keys(workers=2) == first
    assert keys(start=4)[:3] == first[4:]
    counts = [len(boxes) for batch in first for _, boxes in batch]
    assert max(counts) > 4  # more than the two of an image and its partner


def test_damaged_other_images_are_skipped_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    d = dataset(tmp_path)
    (tmp_path / "images/2.jpg").write_bytes(b"")
    batches, per_epoch = data.batches(d, 2, (data.Mosaic(1.0, (40, 40)),))
    list(islice(batches, 2 * per_epoch))
    assert "2.jpg: the file is not an image" in caplog.text
