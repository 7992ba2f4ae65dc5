"""supervision's non-maximum suppression on ours, for numpy arrays. The swap: a function of three lines."""

from __future__ import annotations

import numpy as np
import supervision
import supervision.detection.core as core
import torch
from timing import arguments, report, timed

from pyrcnn import ops


def swap() -> None:
    """``Detections.with_nms`` calls this function, always with a column of classes."""
    plain = core.box_non_max_suppression

    def suppress(predictions: np.ndarray, iou_threshold: float = 0.5, **metric: object) -> np.ndarray:
        if set(metric.values()) - {supervision.OverlapMetric.IOU}:
            return plain(predictions, iou_threshold, **metric)
        boxes, scores, classes = torch.from_numpy(np.ascontiguousarray(predictions)).split([4, 1, 1], 1)
        kept = np.zeros(len(predictions), bool)
        kept[ops.batched_nms(boxes, scores[:, 0], classes[:, 0], iou_threshold).numpy()] = True
        return kept

    core.box_non_max_suppression = suppress


def detections(count: int) -> supervision.Detections:
    """Return boxes of 80 classes in an image of 2000x2000 pixels."""
    rng = np.random.default_rng(0)
    corner = rng.random((count, 2)) * 2000
    return supervision.Detections(
        np.concatenate([corner, corner + rng.random((count, 2)) * 200 + 4], 1),
        confidence=rng.random(count),
        class_id=rng.integers(0, 80, count),
    )


def main() -> None:
    """Compare the kept boxes and the times before and after the swap."""
    given = [detections(count) for count in ((300,) if arguments(__doc__).small else (2000, 6000))]
    wanted = [timed(lambda d=d: d.with_nms(0.5), 1) for d in given]
    swap()
    for d, (want, before) in zip(given, wanted, strict=True):
        kept, after = timed(lambda d=d: d.with_nms(0.5))
        assert np.array_equal(kept.xyxy, want.xyxy)
        report(f"{len(d)} boxes of 80 classes, {len(kept)} kept", before, after)


if __name__ == "__main__":
    main()
