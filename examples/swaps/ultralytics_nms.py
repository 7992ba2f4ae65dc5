"""Ultralytics' non-maximum suppression on ours. The swap: one assignment."""

from __future__ import annotations

import torch
import ultralytics.utils.nms as theirs
from timing import arguments, report, timed

from pyrcnn import ops


def swap() -> None:
    """Ultralytics calls this function unless torchvision has been imported."""
    theirs.TorchNMS.nms = staticmethod(ops.nms)


def predictions(images: int, confidence: float) -> torch.Tensor:
    """Return [N, 84, 8400]: centre, size and 80 class scores, as a YOLO model gives them for 640x640 pixels."""
    g = torch.Generator().manual_seed(0)
    found = torch.rand(images, 84, 8400, generator=g) ** (8 if confidence > 0.1 else 3) * 0.9
    found[:, :4] = torch.rand(images, 4, 8400, generator=g) * 600 + 10
    found[:, 2:4] *= 0.15
    return found


def main() -> None:
    """Compare the kept boxes and the times before and after the swap."""
    small = arguments(__doc__).small
    theirs_alone = theirs.TorchNMS.nms
    for images, confidence, multi_label in ((1, 0.25, False),) if small else ((4, 0.25, False), (4, 0.001, True)):
        given = predictions(images, confidence)

        def suppress(given: torch.Tensor = given, confidence: float = confidence, several: bool = multi_label):
            return theirs.non_max_suppression(given.clone(), confidence, 0.7, multi_label=several, max_time_img=100)

        theirs.TorchNMS.nms = staticmethod(theirs_alone)
        want, before = timed(suppress, 1)
        swap()
        kept, after = timed(suppress)
        for a, b in zip(kept, want, strict=True):  # as sets: Ultralytics orders equal scores arbitrarily
            assert sorted(a.tolist()) == sorted(b.tolist())
        report(f"[{images}, 84, 8400], confidence {confidence}, multi_label={multi_label}", before, after)


if __name__ == "__main__":
    main()
