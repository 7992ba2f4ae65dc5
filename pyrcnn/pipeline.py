"""What the commands do, apart from reading their arguments: files in, a model, files and tables out."""

from __future__ import annotations

import json as jsonlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from . import checkpoints, data, deploy, draw, models, settings
from . import evaluate as scoring
from . import train as training
from .checkpoints import cards, embedded, zoo
from .checkpoints.atomic import replacing
from .checkpoints.embedded import open_model
from .data import pictures
from .errors import InputError, require
from .structures import Detections

_stderr = Console(stderr=True)


@dataclass(frozen=True)
class Found:
    """One picture's detections and where its annotated copy lies."""

    path: Path
    drawn: Path
    size: tuple[int, int]  # height, width
    detections: Detections
    classes: Sequence[str]
    category_ids: Sequence[int]

    def as_json(self) -> dict[str, Any]:
        """Plain values; boxes are x1, y1, x2, y2 in pixels of the picture."""
        found = self.detections.numpy()
        entries = []
        for i, label in enumerate(found["labels"].tolist()):
            entry = {"label": self.classes[label], "category_id": self.category_ids[label],
                     "score": float(found["scores"][i]), "box": found["boxes"][i].tolist()}  # fmt: skip
            if "keypoints" in found:
                entry["keypoints"] = found["keypoints"][i].tolist()
            entries.append(entry)
        return {"image": str(self.path), "height": self.size[0], "width": self.size[1], "annotated": str(self.drawn),
                "detections": entries}  # fmt: skip


def picture_files(given: Sequence[Path]) -> list[Path]:
    """The pictures themselves and those in folders, each checked to be readable; none given: the embedded one."""
    paths = []
    for path in given or embedded.pictures()[:1]:
        require(path.exists(), f"no such file or folder: {path}")
        inside = (
            [p for p in sorted(path.iterdir()) if p.suffix.lower() in pictures.SUFFIXES] if path.is_dir() else [path]
        )
        require(bool(inside), f"the folder holds no picture: {path}")
        paths += inside
    require(bool(paths), "the package holds no picture: name one")
    for path in paths:
        try:
            pictures.check(path)
        except pictures.PictureError as error:
            raise InputError(f"cannot read {path}: {error}") from None
    return paths


def detect(model: nn.Module, paths: Sequence[Path], out: Path, score: float, quiet: bool) -> list[Found]:
    """Run ``model`` on each picture and write the annotated copies to ``out`` as PNG."""
    require(not out.exists() or out.is_dir(), f"--out must be a folder, {out} is a file")
    found, taken = [], set()
    for path in _progress(paths, "detecting", quiet or len(paths) == 1):
        picture = pictures.read(path)
        with torch.inference_mode():
            detections = model([picture])[0]
        detections = detections[detections.scores > score].to("cpu")
        name = path.stem
        while name in taken:  # pictures of one name from several folders
            name += "_"
        taken.add(name)
        drawn = out / f"{name}.png"
        with replacing(drawn) as temporary:
            draw.annotated(picture, detections, model.classes).save(temporary)  # type: ignore[arg-type]
        size = (picture.shape[1], picture.shape[2])
        found.append(Found(path, drawn, size, detections, model.classes, model.category_ids))  # type: ignore[arg-type]
    return found


def evaluate(model: nn.Module, images: Any, annotations: Path, keypoints: bool, quiet: bool) -> dict[str, float]:
    """Score ``model`` on a data set."""
    dataset = data.coco(images, annotations)
    with _bar("evaluating", len(dataset), quiet) as advance:
        return scoring.coco(model, dataset, keypoints=keypoints, progress=lambda done, of: advance(done))


def train(name: str, sources: Any, recipe: str, changes: Sequence[str], weights: Path | None, backbone: Path | None,
          run: Mapping[str, Any], cache: bool) -> training.Result:  # fmt: skip
    """Build, fill and train a model; its class count is the data set's unless set."""
    require(name in models.names(), f"model must be one of {', '.join(models.names())}, got {name!r}")
    require(recipe in training.RECIPES, f"--recipe must be one of {', '.join(training.RECIPES)}, got {recipe!r}")
    require(run["device"] == "cpu" or torch.cuda.is_available(), f"device {run['device']} is not available, use cpu")
    config = replace(training.RECIPES[recipe], **run)
    of_model, of_run = settings.parse(changes, models.PRESETS[name], config)
    train_data, val_data = (data.coco(*source, cache=cache) if source else None for source in sources)
    if weights == zoo.ZOO:
        weights = zoo.weights(name)
    of_model = zoo.with_settings(name, weights, of_model)
    config = replace(config, **of_run)
    torch.manual_seed(config.seed)  # the new layers' weights too
    model = models.build(name, **{"num_classes": len(train_data.classes), **of_model})  # type: ignore[union-attr]
    if backbone is not None:
        _stderr.print(str(checkpoints.load_backbone(model, backbone)), highlight=False)
    if weights is not None:
        _stderr.print(str(checkpoints.load(model, weights, new_heads=True)), highlight=False)
    return training.fit(model, train_data, val_data, config)


def convert(source: Path, out: Path, name: str, changes: Sequence[str], half: bool) -> str:
    """Read ``source`` into the model ``name`` and write it as a file of ours; returns the report."""
    require(name in models.names(), f"model must be one of {', '.join(models.names())}, got {name!r}")
    require(out.suffix == ".safetensors", f"the file to write must end in .safetensors, got {out}")
    (of_model,) = settings.parse(changes, models.PRESETS[name])
    if source == zoo.ZOO:
        source = zoo.weights(name)
    model, report = checkpoints.build(name, source, **of_model)
    checkpoints.save(model, out, torch.float16 if half else None)
    return f"{report}\n{out}"


def export(out: Path, name: str | None, weights: Path | None, format: str, size: tuple[int, int] | None, batch: int,
           dtype: str | None, device: str) -> Path:  # fmt: skip
    """Write a model with its weights in one of ``deploy.FORMATS``."""
    model = open_model(name, weights, device)
    return deploy.export(model, out, format, size, batch=batch, dtype=_dtype(dtype, device))


def _dtype(name: str | None, device: str) -> torch.dtype | None:
    names = {str(dtype).removeprefix("torch."): dtype for dtype in deploy.DTYPES}
    known = name is None or name == "auto" or name in names
    require(known, f"--dtype must be one of auto, {', '.join(names)}, got {name!r}")
    return deploy.fastest_dtype(torch.device(device)) if name == "auto" else names.get(str(name))


def benchmark(name: str | None, weights: Path | None, device: str, batch: int, size: tuple[int, int],
              repeat: int, optimize: bool, dtype: str | None) -> dict[str, float]:  # fmt: skip
    """Milliseconds per call on random pictures: from uint8 pictures to detections. Without weights, random ones.

    With ``optimize`` the optimized model takes turns with the plain one.
    """
    precision = _dtype(dtype, device)
    if weights is None and name is not None and name in models.names() and name not in embedded.weights():
        require(device == "cpu" or torch.cuda.is_available(), f"device {device} is not available here, use cpu")
        model = models.build(name).to(device).eval()
    else:
        model = open_model(name, weights, device)
    given = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(batch)]
    contenders = {"": model} | ({"optimized ": deploy.optimize(model, precision)} if optimize else {})
    taken: dict[str, list[float]] = {label: [] for label in contenders}
    with torch.inference_mode():
        for _ in range(repeat + 2):
            for label, contender in contenders.items():
                began = time.perf_counter()
                contender(given)
                if device != "cpu":
                    torch.cuda.synchronize()
                taken[label].append(1e3 * (time.perf_counter() - began))
    result = {"pictures": float(batch)}
    for label, times in taken.items():
        times = sorted(times[2:])  # the first calls choose algorithms and fill caches
        found = {"median": times[len(times) // 2], "fastest": times[0], "slowest": times[-1]}
        result |= {label + what: value for what, value in found.items()}
    return result


def list_models() -> list[dict[str, Any]]:
    """Every model's card: its size, what is published about it, where weights are."""
    return [cards.card(name) for name in models.names()]


def print_detections(found: Sequence[Found]) -> None:
    """A table per picture."""
    console = Console()
    for entry in found:
        table = Table("class", "score", "x1", "y1", "x2", "y2", title=str(entry.path), box=box.SIMPLE_HEAD)
        values = entry.detections.numpy()
        for label, score, corners in zip(values["labels"], values["scores"], values["boxes"], strict=True):
            table.add_row(entry.classes[label], f"{score:.2f}", *(f"{v:.0f}" for v in corners))
        if len(entry.detections):
            console.print(table)
        else:
            console.print(f"{entry.path}: nothing found", highlight=False)
        console.print(f"annotated picture: {entry.drawn}", highlight=False, soft_wrap=True)


def print_models(listing: Sequence[Mapping[str, Any]]) -> None:
    """The models as a table; accuracy and speed as their publishers state them."""
    table = Table("model", "parameters", "input", "mAP", "ms", "weights", box=box.SIMPLE_HEAD)
    for entry in listing:
        speed = "" if entry["milliseconds"] is None else f"{entry['milliseconds']:.0f}"
        size = f"{entry['parameters'] / 1e6:.1f} M"
        accuracy = cards.accuracy(entry)
        table.add_row(entry["name"], size, entry["input"], accuracy, speed, ", ".join(entry["weights"]))
    Console().print(table)


def print_urls(json: bool) -> None:
    """Where the published weights lie: a line for each model, or one JSON object."""
    lines = [f"{name} {url}" for name, url in zoo.URLS.items()]
    print(jsonlib.dumps(zoo.URLS) if json else "\n".join(lines))


def print_pairs(title: str, values: Mapping[str, Any]) -> None:
    """Names and values as a table."""
    table = Table(title, "", box=box.SIMPLE_HEAD)
    for name, value in values.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)


def _progress(items: Iterable[Any], what: str, quiet: bool) -> Iterable[Any]:
    return track(items, what, console=_stderr, disable=quiet or not _stderr.is_terminal)


class _bar:
    """``with _bar(what, total, quiet) as advance: advance(done)``: a bar with an estimate on standard error."""

    def __init__(self, what: str, total: int, quiet: bool):
        from rich.progress import Progress

        self.progress = Progress(console=_stderr, disable=quiet or not _stderr.is_terminal)
        self.task = self.progress.add_task(what, total=total)

    def __enter__(self) -> Any:
        self.progress.start()
        return lambda done: self.progress.update(self.task, completed=done)

    def __exit__(self, *error: Any) -> None:
        self.progress.stop()
