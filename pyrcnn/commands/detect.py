"""``pyrcnn detect``: images in, detections and annotated copies out, image by image."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .. import draw, images, inference
from ..checkpoints import bundled
from ..errors import InputError, require
from ..structures import Detections
from . import terminal
from .common import open_model, use_threads
from .outputs import Copies


@dataclass(frozen=True)
class Options:
    """What ``pyrcnn detect`` is asked for, apart from the images and the model."""

    out: Path | None = None
    score: float = 0.3
    format: str = "jpg"
    draw: bool = True
    plain: bool = False
    engine: str | None = None
    threads: int | None = None
    json: bool = False
    overwrite: bool = False


def run(given: Sequence[Path], model: str | None, weights: str, device: str, options: Options) -> int:
    """Detect in every image, print the results as they come, and return the exit code: 1 if a file cannot be read."""
    use_threads(options.threads)
    paths, failures = image_files(given)
    copies = Copies(paths, options.out, options.format, options.overwrite) if options.draw else None
    opened = open_model(model, weights, device)
    fast = inference.faster(opened, len(paths), plain=options.plain, engine=options.engine)
    for failure in failures:
        terminal.complain(failure)
    entries = []
    # The printed results show the progress on a terminal; a bar is needed if they go elsewhere.
    quiet = len(paths) == 1 or (terminal.interactive(sys.stdout) and not options.json)
    with terminal.bar("detecting", len(paths), quiet) as advance:
        for done, (path, image, found) in enumerate(inference.detect(fast, paths, images.read), start=1):
            if isinstance(found, InputError):
                failures.append(str(found))
                terminal.complain(str(found))
            else:
                kept = found[found.scores > options.score].to("cpu")
                picture = draw.annotated(image, kept, opened.classes) if copies else None  # type: ignore[arg-type]
                annotated = copies.write(done - 1, picture) if copies and picture else None
                if options.json:
                    entries.append(_entry(path, image, annotated, kept, opened))
                else:
                    _print(path, annotated, kept, opened)
            advance(done)
    if options.json:
        terminal.print_json(entries, indent=1)
    return 1 if failures else 0


def image_files(given: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The images named and those in the folders named (none: a bundled image), and a message per path without any.

    Raises :class:`pyrcnn.InputError` if the only path given is such a path or cannot be read.
    """
    paths: list[Path] = []
    failures = []
    for path in given or bundled.images()[:1]:
        try:
            inside = _images_in(path) if path.is_dir() else [path]
            missing = not path.exists()
        except OSError as error:
            failures.append(f"cannot read {path}: {error.strerror}")
            continue
        if missing:
            failures.append(f"no such file or folder: {path}")
        elif not inside:
            failures.append(f"the folder holds no image: {path}")
        else:
            paths += inside
    require(bool(paths), "; ".join(failures) or "the package holds no image: name one")
    if len(given) == 1 and paths == list(given):
        images.check(paths[0])
    return paths, failures


def _images_in(folder: Path) -> list[Path]:
    inside = images.files_in(folder)
    others = sum(1 for _ in folder.iterdir()) - len(inside)
    if inside and others:
        terminal.complain(f"{folder}: skipped {others} that {'is' if others == 1 else 'are'} no image by name")
    return inside


def _entry(path: Path, image: Tensor, annotated: Path | None, detections: Detections, model: Any) -> dict[str, Any]:
    """Plain values for JSON; boxes are x1, y1, x2, y2 in pixels of the image."""
    found = detections.numpy()
    entries = []
    for i, label in enumerate(found["labels"].tolist()):
        entry = {"label": model.classes[label], "category_id": model.category_ids[label],
                 "score": float(found["scores"][i]), "box": found["boxes"][i].tolist()}  # fmt: skip
        if "keypoints" in found:
            entry["keypoints"] = found["keypoints"][i].tolist()
        entries.append(entry)
    return {"image": str(path), "height": image.shape[1], "width": image.shape[2],
            "annotated": None if annotated is None else str(annotated), "detections": entries}  # fmt: skip


def _print(path: Path, annotated: Path | None, detections: Detections, model: nn.Module) -> None:
    found = detections.numpy()
    rows = [
        [f"  {model.classes[label]}", f"{score:.2f}", *(f"{v:.0f}" for v in box)]  # type: ignore[index]
        for label, score, box in zip(found["labels"], found["scores"], found["boxes"], strict=True)
    ]
    count = {0: "nothing found", 1: "1 object"}.get(len(rows), f"{len(rows)} objects")
    terminal.show(f"{path}: {count}")
    if rows:
        numbers = ("score", "x1", "y1", "x2", "y2")
        terminal.print_table(("  class", *numbers), rows, right=numbers)
    if annotated is not None:
        terminal.show(f"  annotated image: {annotated}")
