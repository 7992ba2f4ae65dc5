"""``pyrcnn evaluate``: COCO's average precision of a results file or of a model."""

from __future__ import annotations

from pathlib import Path

from .. import data
from .. import evaluate as scoring
from ..errors import require
from . import terminal
from .common import open_model, use_threads


def run(annotations: Path, detections: Path | None, images: Path | None, model: str | None, weights: str, device: str,
        keypoints: bool, plain: bool, engine: str | None, threads: int | None, json: bool) -> None:  # fmt: skip
    """Score a results file, or the model on the images, and print the scores."""
    require((detections is None) != (images is None), "give either --detections, a results file, or --images, a folder")
    use_threads(threads)
    if detections is not None:
        scores = scoring.coco(detections, annotations, keypoints=keypoints)
    else:
        opened = open_model(model, weights, device)
        dataset = data.coco(images, annotations)  # type: ignore[arg-type]
        with terminal.bar("evaluating", len(dataset), json) as advance:
            scores = scoring.coco(opened, dataset, keypoints=keypoints, plain=plain, engine=engine,
                                  progress=lambda done, of: advance(done))  # fmt: skip
    terminal.print_pairs("COCO, keypoints" if keypoints else "COCO, boxes", scores, json)
