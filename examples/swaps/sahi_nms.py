"""SAHI's non-maximum suppression on ours, by its torchvision backend. The swap: two lines."""

from __future__ import annotations

import numpy as np
from sahi.postprocess import backends, combine
from timing import arguments, report, timed

import pyrcnn


def swap() -> None:
    """SAHI's torchvision backend calls ``torchvision.ops.nms``."""
    pyrcnn.provide_torchvision(override=True)
    backends.set_postprocess_backend("torchvision")


def predictions(count: int) -> np.ndarray:
    """Return [N, 6]: corners, score and class, as SAHI collects them from the slices of an image.

    No two scores are equal: SAHI orders equal ones otherwise.
    """
    rng = np.random.default_rng(0)
    corner = rng.random((count, 2)) * 2000
    boxes = np.concatenate([corner, corner + rng.random((count, 2)) * 60 + 4], 1)
    scores = rng.permutation(count)[:, None] / count
    return np.concatenate([boxes, scores, np.zeros((count, 1))], 1).astype(np.float32)


def main() -> None:
    """Compare the kept boxes and the times before and after the swap."""
    given = [predictions(count) for count in ((500,) if arguments(__doc__).small else (2000, 20000))]
    backends.set_postprocess_backend("numpy")
    wanted = [timed(lambda p=p: combine.nms(p, "IOU", 0.5), 1) for p in given]
    swap()
    for p, (want, before) in zip(given, wanted, strict=True):
        kept, after = timed(lambda p=p: combine.nms(p, "IOU", 0.5))
        assert kept == list(map(int, want))  # SAHI also drops a box at exactly the threshold; there is none here
        report(f"{len(p)} boxes", before, after)


if __name__ == "__main__":
    main()
