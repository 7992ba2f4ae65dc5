"""``pyrcnn detect``: images and videos in, detections and annotated copies out, image by image."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import inference
from ...errors import InputError, require
from ...images import draw
from .. import terminal
from ..common import open_model, use_threads
from . import copies, results
from .sources import expected, find, items

FORMATS = ("text", "json", "jsonl", "coco")


@dataclass(frozen=True)
class Options:
    """What ``pyrcnn detect`` is asked for, apart from the images and the model."""

    out: Path | None = None
    score: float = 0.3
    format: str = "text"
    image_format: str = "jpg"
    annotations: Path | None = None
    every: int = 1
    draw: bool = True
    plain: bool = False
    engine: str | None = None
    threads: int | None = None
    overwrite: bool = False


def run(given: Sequence[Path], model: str | None, weights: str, device: str, options: Options) -> int:
    """Detect in every image, print the results as they come, and return the exit code: 1 if a file cannot be read."""
    form, image_format = options.format, options.image_format
    if form in copies.FORMATS:
        terminal.note(f"--format {form} is deprecated for the annotated copies, use --image-format {form}")
        form, image_format = "text", form
    require(form in FORMATS, f"--format must be one of {', '.join(FORMATS)}, got {form!r}")
    joined = options.annotations
    require(joined is None or form == "coco", f"--annotations must go with --format coco, got --format {form}")
    use_threads(options.threads)
    sources, failures = find(given, options.out)
    written = copies.Copies(sources, options.out, image_format, options.overwrite) if options.draw else None
    file = None if joined is None else results.opened_annotations(joined)
    ids: dict[Path, Any] = {}
    if file is not None:
        ids, unlisted = results.image_ids(sources, file)
        failures += unlisted
    opened: Any = open_model(model, weights, device)
    output = _FORMS[form](opened) if file is None else results.CocoResults(opened, ids, file)
    total = expected(sources, options.every)
    fast = inference.faster(opened, total or inference.OPTIMIZE_FROM, plain=options.plain, engine=options.engine)
    for failure in failures:
        terminal.complain(failure)
    # Results that are printed at once show the progress on a terminal; a bar is needed if they go elsewhere.
    quiet = total == 1 or (terminal.interactive(sys.stdout) and output.at_once)
    work = (item for item in items(sources, options.every) if not ids or item.source.path in ids)
    with terminal.bar("detecting", total, quiet) as advance, written or contextlib.nullcontext():
        for done, (item, image, found) in enumerate(inference.detect(fast, work, lambda item: item.read()), start=1):
            if isinstance(found, InputError):
                failures.append(str(found))
                terminal.complain(str(found))
            else:
                kept = found[found.scores > options.score].to("cpu")
                copy = written.write(item, draw.annotated(image, kept, opened.classes)) if written else None
                output.add(item, image, copy, kept)
            advance(done)
    if written:
        for video in written.videos:
            terminal.note(f"annotated video: {video}")
    output.finish()
    return 1 if failures else 0


_FORMS: dict[str, type[results.Results]] = {
    "text": results.Text, "json": results.Json, "jsonl": results.JsonLines, "coco": results.CocoObject,
}  # fmt: skip
