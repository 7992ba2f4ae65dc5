"""``pyrcnn evaluate``: COCO's average precision of a results file or of a model."""

from __future__ import annotations

from pathlib import Path

from .. import evaluate as scoring
from ..data.formats.sources import VALIDATION
from ..errors import require
from . import terminal
from .common import open_model, use_threads
from .sources import Given


def run(annotations: Path | None, detections: Path | None, images: Path | None, source: str | None, model: str | None,
        weights: str, device: str, keypoints: bool, plain: bool, engine: str | None, threads: int | None,
        json: bool) -> None:  # fmt: skip
    """Score a results file, or the model on the images, and print the scores."""
    given = Given(source, images, annotations)
    require(bool(given), "give --annotations, a COCO file, or --data, a data set")
    one = source is not None or (detections is None) != (images is None)
    require(one, "give either --detections, a results file, or --images, a folder")
    use_threads(threads)
    if detections is not None:
        truth = annotations if source is None else given.open(VALIDATION)
        scores = scoring.coco(detections, truth, keypoints=keypoints)  # type: ignore[arg-type]
    else:
        opened = open_model(model, weights, device)
        dataset = given.open(VALIDATION)
        with terminal.bar("evaluating", len(dataset), json) as advance:
            scores = scoring.coco(opened, dataset, keypoints=keypoints, plain=plain, engine=engine,
                                  progress=lambda done, of: advance(done))  # fmt: skip
    terminal.print_pairs("COCO, keypoints" if keypoints else "COCO, boxes", scores, json)
