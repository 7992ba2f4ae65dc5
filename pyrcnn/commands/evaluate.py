"""``pyrcnn evaluate``: average precision of a results file or of a model, and a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..atomic import check_outputs
from ..checkpoints.opening import BUNDLED
from ..data.formats.sources import VALIDATION
from ..errors import require
from ..evaluate import analysis, page, pascal, speed
from ..evaluate.inputs import Inputs, gather
from . import terminal
from .common import open_model, use_threads
from .data.given import Given

METRICS = ("coco", "voc2007", "voc2012")
_COLUMNS = ("AP", "AP50", "AP75", "AR")  # of a class, on the terminal


@dataclass(frozen=True)
class Options:
    """The options of one call; :mod:`pyrcnn.cli` documents them."""

    metric: str
    keypoints: bool
    report: Path | None
    overwrite: bool
    plain: bool
    engine: str | None
    json: bool


def run(given: Given, detections: Path | None, model: str | None, weights: str, device: str, threads: int | None,
        options: Options) -> None:  # fmt: skip
    """Score a results file, or the model on the images, and print the scores."""
    require(bool(given), "give --annotations, a COCO file, or --data, a data set")
    one = given.source is not None or (detections is None) != (given.images is None)
    both = detections is not None and options.report is not None  # for the report's images
    require(one or both, "give either --detections, a results file, or --images, a folder")
    require(options.metric in METRICS, f"--metric must be one of {', '.join(METRICS)}, got {options.metric!r}")
    coco = options.metric == "coco"
    require(coco or not options.keypoints, f"--metric must be coco with --keypoints, got {options.metric!r}")
    if options.report is not None:
        read = [*given.files(), *([] if detections is None else [detections])]
        check_outputs([options.report / page.FILE], "--report", overwrite=options.overwrite, inputs=read)
    use_threads(threads)
    inputs = _inputs(given, detections, model, weights, device, options)
    analyzed = None
    if coco or options.report is not None:
        analyzed = analysis.analyze_inputs(inputs, options.keypoints, per_image=options.report is not None)
    if coco:
        assert analyzed is not None
        terminal.print_pairs("COCO, keypoints" if options.keypoints else "COCO, boxes", analyzed.scores, options.json)
        if not options.json:
            _print_classes(analyzed)
    else:
        _print_voc(pascal.voc_of_inputs(inputs, int(options.metric.removeprefix("voc"))), options)
    if options.report is not None:
        assert analyzed is not None
        measured = None
        if inputs.model is not None and inputs.dataset is not None:
            measured = speed.measure(inputs.model, inputs.dataset, plain=options.plain, engine=options.engine)
        of_weights = "bundled weights" if weights == BUNDLED else Path(weights).name
        name = str(detections) if detections is not None else " ".join(filter(None, (model, of_weights)))
        title = f"{name} on {given.source or given.annotations}"
        written = page.write(analyzed, inputs.annotations, options.report, dataset=inputs.dataset, measured=measured,
                             title=title, overwrite=options.overwrite)  # fmt: skip
        (terminal.note if options.json else terminal.show)(written)


def _inputs(given: Given, detections: Path | None, model: str | None, weights: str, device: str,
            options: Options) -> Inputs:  # fmt: skip
    if detections is not None:
        alone = given.source is None and given.images is None
        return gather(detections, given.annotations if alone else given.open(VALIDATION))
    opened = open_model(model, weights, device)
    dataset = given.open(VALIDATION)
    with terminal.bar("evaluating", len(dataset), options.json) as advance:
        return gather(opened, dataset, plain=options.plain, engine=options.engine,
                      progress=lambda done, of: advance(done))  # fmt: skip


def _print_classes(analyzed: analysis.Evaluation) -> None:
    header = ("class", "objects", *_COLUMNS)
    rows = [(c.name, str(c.objects), *(f"{c.scores[name]:.3f}" for name in _COLUMNS)) for c in analyzed.classes]
    if rows:
        terminal.print_table(header, rows, right=header[1:])


def _print_voc(found: dict, options: Options) -> None:
    if options.json:
        terminal.print_json(found)
        return
    title = f"Pascal VOC {options.metric.removeprefix('voc')}, AP at IoU 0.5"
    terminal.print_pairs(title, {"mAP": found["mAP"], **found["classes"]}, False)
