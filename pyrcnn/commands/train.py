"""``pyrcnn train``: build a model, fill it with weights, train it on a data set; or continue a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from .. import settings
from .. import train as training
from ..atomic import check_outputs
from ..data import parse_transforms
from ..data.formats.sources import TRAIN, VALIDATION, absolute
from ..errors import InputError, require
from ..train import alternating, run_folder, state
from ..train.events import TENSORBOARD
from ..train.run_folder import contact_sheet
from ..train.scoring import of_classes
from . import terminal
from .common import check_device
from .data.given import Given
from .starting import Start

PREVIEW = "preview.jpg"


def run(name: str, train_on: Given, validate_on: Given, recipe: str, changes: Sequence[str],
        weights: str | None, backbone: Path | None, out: Path, resume: bool, overwrite: bool, device: str,
        cache: bool, augment: str | None = None, preview: bool = False) -> None:  # fmt: skip
    """Train and print the files that were written. The class count is the data set's unless it is set."""
    if resume and not train_on and Path(name).is_dir():
        continue_run(Path(name), changes, device)
        return
    start = Start.of(name, weights, backbone)
    catalog = training.recipes.CATALOG
    require(recipe in catalog, f"--recipe must be one of {', '.join(catalog)}, got {recipe!r}")
    chosen = catalog[recipe]
    check_device(device)
    given: dict[str, Any] = {"out": str(out), "resume": resume, "overwrite": overwrite, "device": device}
    if augment is not None:
        given["augment"] = parse_transforms(augment)
    config = replace(chosen.config, **given)
    read = [*train_on.files(), *validate_on.files(), *start.inputs]
    if preview:
        check_outputs([out / PREVIEW], "out", overwrite=overwrite, inputs=read)
    else:
        check_outputs([out / file for file in state.FILES], "out", overwrite=True, inputs=read)
        (alternating.check_folder if chosen.stages else state.check_folder_of_run)(out, resume, overwrite)
    of_model, of_run = settings.parse(changes, start.config(), config)
    train_data = train_on.open(TRAIN, cache)
    val_data = validate_on.open(VALIDATION, cache) if validate_on else None
    config = replace(config, **of_run)
    if preview:
        contact_sheet.write(train_data, config, out / PREVIEW)
        terminal.show(out / PREVIEW)
        return
    torch.manual_seed(config.seed)  # for the new layers' weights too
    if start.name in chosen.presets:
        of_model = settings.merge(chosen.model, of_model)
    model = start.model(train_data.classes, of_model, config.freeze_norm)
    stages = [replace(stage, **given, **of_run) for stage in chosen.stages]
    apart = [
        line
        for published, own in zip(chosen.stages or [chosen.config], stages or [config], strict=True)
        for line in training.recipes.differences(replace(chosen, config=published), own, model, len(train_data))
    ]
    terminal.note(*(f"recipe {recipe}: {line}" for line in dict.fromkeys(apart)))
    if stages:
        result = training.fit_alternating(model, train_data, val_data, stages)
        _summarize(out / f"step{len(stages)}", result)
        return
    about = {
        "recipe": recipe,
        "start": {"model": name, "weights": weights or "random",
                  "files": [run_folder.file_entry(file) for file in start.inputs]},
        "sources": {"train": _absolute(train_on), "val": _absolute(validate_on), "cache": cache},
    }  # fmt: skip
    result = training.fit(model, train_data, val_data, config, about=about)
    _summarize(out, result, config)


def continue_run(folder: Path, changes: Sequence[str], device: str = "cpu") -> None:
    """Continue the run in ``folder`` with what its ``config.json`` tells; ``changes`` may make it longer."""
    entry = run_folder.read(folder)
    before = replace(run_folder.settings_of(entry, folder), out=str(folder), resume=True, overwrite=False)
    if device != "cpu":
        before = replace(before, device=device)
    config = replace(before, **settings.parse(changes, before)[0])
    check_device(config.device)
    state.check_folder_of_run(folder, True, False)
    sources = entry.get("sources")
    if not isinstance(sources, dict):
        raise InputError(
            f"resume must find data sets in {folder / state.CONFIG}; train.fit, which began it, continues it"
        )
    cache = bool(sources.get("cache"))
    train_on, validate_on = (_given(sources.get(kind), folder) for kind in ("train", "val"))
    train_data = train_on.open(TRAIN, cache)
    val_data = validate_on.open(VALIDATION, cache) if validate_on else None
    model = run_folder.model_of(entry, folder)
    if config.epochs != before.epochs or config.steps != before.steps:
        terminal.note(f"the run has {config.epochs:g} epochs instead of {before.epochs:g}: its schedule continues with "
                      "the new length")  # fmt: skip
    _summarize(folder, training.fit(model, train_data, val_data, config), config)


def _absolute(given: Given) -> dict[str, Any]:
    """Return the options with full paths, so that the run can be continued from any folder."""
    values = {name: value and str(value) for name, value in asdict(given).items()}
    return {name: absolute(value) if value and name != "prefix" else value for name, value in values.items()}


def _given(values: Any, folder: Path) -> Given:
    try:
        paths = {name: None if values[name] is None else Path(values[name]) for name in ("images", "annotations")}
        return Given(values["source"], paths["images"], paths["annotations"], values["prefix"])
    except (KeyError, TypeError):
        raise InputError(f"resume must find data sets in {folder / state.CONFIG}, got {values!r}") from None


def _summarize(out: Path, result: training.Result, config: training.TrainConfig | None = None) -> None:
    """Print what was written, the AP of each class, and what to do with the weights; None: not how to go on."""
    longer = f"; pyrcnn train {out} --resume --set epochs={2 * config.epochs:g} trains longer" if config else ""
    by = config.best_by if config else "auto"
    if by == "auto":
        by = "keypoints_AP" if "keypoints_AP" in result.scores else "AP"
    notes: Mapping[str, str] = {
        state.BEST: f"the weights with the highest {by}, {result.best:.3f}" if result.best is not None else "",
        state.LAST: "the last weights", state.CURVES: "losses, learning rate and scores as curves",
        state.TABLE: "the same as a table", state.SHEET: "the first images with their targets",
        state.CONFIG: f"settings{longer}",
        f"{TENSORBOARD}/": f"tensorboard --logdir {out} shows it",
    }  # fmt: skip
    rows = [(str(out / name), note) for name, note in notes.items() if (out / name).exists()]
    terminal.show(*terminal.table(rows[0], rows[1:]))
    classes = of_classes(result.scores)
    if classes:
        terminal.show("AP of the last weights")
        terminal.show(*terminal.table(("  all", f"{result.scores['AP']:.3f}"),
                                      [(f"  {name}", f"{value:.3f}") for name, value in classes.items()]))  # fmt: skip
    best = result.best_file or result.last_file
    terminal.show(f"next: pyrcnn detect --weights {best} IMAGE")
