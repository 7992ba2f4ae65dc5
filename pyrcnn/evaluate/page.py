"""The report of an evaluation: one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from .. import environment, inference
from ..atomic import check_outputs, replacing
from ..data import CocoDataset
from ..data.annotations import Annotations
from ..errors import needing
from ..texts import printable
from . import cocoeval, crops, plots, speed
from .analysis import SCORE, Evaluation, analyze_inputs
from .inputs import gather
from .speed import Speed

FILE = "index.html"
MOST_IN_TABLE = 20  # classes of a confusion matrix that is a table; of more, a heat map and the most frequent ones
MOST_PAIRS = 30
MOST_FIGURES = 30  # classes with curves of their own

MEANINGS = {
    "AP": "average precision, the mean over IoU 0.50, 0.55, … 0.95",
    "AP50": "average precision at IoU 0.50", "AP75": "average precision at IoU 0.75",
    "APs": "AP of small objects, below 32² pixels", "APm": "AP of medium objects, 32² to 96² pixels",
    "APl": "AP of large objects, above 96² pixels", "AR": "average recall, the mean over IoU 0.50, 0.55, … 0.95",
    "AR1": "average recall with 1 detection per image and class", "AR10": "average recall with 10",
    "AR100": "average recall with 100",
    "AR50": "recall at IoU 0.50", "AR75": "recall at IoU 0.75", "ARs": "average recall of small objects",
    "ARm": "average recall of medium objects", "ARl": "average recall of large objects",
}  # fmt: skip
KINDS = {
    "false positive": "detections where no object of their class is",
    "missed": "objects without a detection, the largest first",
    "wrong class": "detections that cover an object of another class",
    "badly placed": "detections that overlap an object of their class by less than 0.5",
    "found twice": "second detections of an object that another detection has found",
}


def report(model_or_detections: Any, dataset: CocoDataset | str | Path, folder: str | Path, *, title: str = "",
           keypoints: bool = False, sigmas: Sequence[float] | None = None, score: float = SCORE,
           overwrite: bool = False, batch_size: int = inference.BATCH, plain: bool = False, engine: str | None = None,
           progress: Callable[[int, int], None] | None = None) -> Path:  # fmt: skip
    """Evaluate, write a page about it, and return the page's file, ``index.html`` in ``folder``.

    The page shows COCO's numbers, the numbers and curves of each class, the confusion matrix, precision and recall over
    the score, the worst mistakes with crops of their images, and the time per image. It is one file without
    references to others.

    Args:
        model_or_detections, dataset, keypoints, sigmas, batch_size, plain, engine, progress: as in :func:`coco`. There
            are crops if ``dataset`` is a data set, and times if a model is given.
        folder: where to write; it is created if it is missing.
        title: the heading; by default that of the annotations.
        score: detections above it count in the confusion matrix and as mistakes.
        overwrite: whether to replace the page of an earlier report.

    Raises:
        pyrcnn.InputError: as :func:`coco` does, and if the page cannot be written.

    Example::

        evaluate.report(model, data.coco("images", "test.json"), "report")
    """
    check_outputs([Path(folder) / FILE], "report", overwrite=overwrite)
    inputs = gather(model_or_detections, dataset, batch_size=batch_size, plain=plain, engine=engine, progress=progress)
    evaluation = analyze_inputs(inputs, keypoints, sigmas, score)
    measured = None
    if inputs.model is not None and inputs.dataset is not None:
        measured = speed.measure(inputs.model, inputs.dataset, plain=plain, engine=engine)
    return write(evaluation, inputs.annotations, folder, dataset=inputs.dataset, measured=measured, title=title,
                 overwrite=overwrite)  # fmt: skip


def write(evaluation: Evaluation, annotations: Annotations, folder: str | Path, *, dataset: CocoDataset | None = None,
          measured: Speed | None = None, title: str = "", overwrite: bool = False) -> Path:  # fmt: skip
    """Write the page of an evaluation with matches per image and return its file; see :func:`report`."""
    with needing("jinja2", "evaluate.report"):
        import jinja2

    loader = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    loader.filters |= {"number": _number, "printable": printable}
    template = loader.from_string(resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    text = template.render(_content(evaluation, annotations, dataset, measured, title))
    path = Path(folder) / FILE
    with replacing(path, argument="report", overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _content(evaluation: Evaluation, annotations: Annotations, dataset: CocoDataset | None, measured: Speed | None,
             title: str) -> dict[str, Any]:  # fmt: skip
    from markupsafe import Markup

    curve = evaluation.score_curve()
    best = int(curve.f1.argmax()) if len(curve.scores) else None
    order = sorted(range(len(evaluation.classes)), key=lambda k: -evaluation.classes[k].objects)
    files = [str(annotations.images[i].get("file_name", i)) for i in cocoeval.image_order(annotations)]
    return {
        "title": title or f"Evaluation on {Path(annotations.report.source).name}",
        "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "evaluation": evaluation, "overlap": "OKS" if evaluation.keypoints else "IoU", "meanings": MEANINGS,
        "images": len(files), "objects": sum(c.objects for c in evaluation.classes),
        "columns": list(evaluation.classes[0].scores) if evaluation.classes else [],
        "best_scores": {c.label: _best_score(evaluation, c.label) for c in evaluation.classes},
        "by_class": Markup(plots.by_class(evaluation)), "by_size": Markup(plots.by_size(evaluation)),
        "of_class": [(evaluation.classes[k], Markup(plots.by_size(evaluation, k))) for k in order[:MOST_FIGURES]],
        "without_figure": len(order[MOST_FIGURES:]),
        "by_score": Markup(plots.by_score(curve)),
        "best": None if best is None else [values[best] for values in (*curve, curve.f1)],
        "confusion": _confusion(evaluation), "mistakes": _mistakes(evaluation, dataset, files), "kinds": KINDS,
        "speed": measured, "environment": measured.environment if measured else environment.describe(),
        "unreadable": len(dataset.report.unreadable) if dataset else 0,
    }  # fmt: skip


def _best_score(evaluation: Evaluation, label: int) -> float:
    """Return the score above which the detections of a class have the highest F1; -1 without detections."""
    curve = evaluation.score_curve(label)
    return float(curve.scores[curve.f1.argmax()]) if len(curve.scores) and curve.f1.any() else -1.0


def _confusion(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the rows of the matrix of the classes that occur, or of many classes a heat map and the largest counts."""
    from markupsafe import Markup

    table = evaluation.confusion
    if table is None:
        return None
    none = len(evaluation.names)
    names = [*evaluation.names, None]
    labels = [i for i in range(none) if table[i].any() or table[:, i].any()] + [none]
    if len(labels) - 1 <= MOST_IN_TABLE:
        totals = table.sum(1)
        rows = [(names[i], [(int(table[i, j]), table[i, j] / max(totals[i], 1), i == j) for j in labels])
                for i in labels]  # fmt: skip
        return {"names": [names[i] for i in labels], "rows": rows}
    other = table.copy()
    np.fill_diagonal(other, 0)
    largest = np.argsort(-other[:none, :none], axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [(names[i // none], names[i % none], int(other[i // none, i % none])) for i in largest.tolist()]
    return {"map": Markup(plots.confusion(table)), "pairs": [pair for pair in pairs if pair[2]]}


def _mistakes(evaluation: Evaluation, dataset: CocoDataset | None, files: Sequence[str]) -> list[tuple[str, int, Any]]:
    """Return (kind, how many, the worst of them) for each kind."""
    budget, found = crops.MOST_BYTES, []
    for kind, (count, chosen) in crops.pick(evaluation).items():
        shown = crops.show(evaluation, chosen, dataset, files, budget)
        budget -= sum(len(s.picture or "") for s in shown)
        found.append((kind, count, shown))
    return found


def _number(value: float, digits: int = 3) -> str:
    """Return a score as text; COCO's -1 is no score."""
    return "–" if value < 0 else f"{value:.{digits}f}"
