"""``pyrcnn train``: build a model, fill it with weights, train it on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from .. import settings
from .. import train as training
from ..atomic import check_outputs
from ..data import parse_transforms
from ..data.formats.sources import TRAIN, VALIDATION
from ..errors import require
from ..train import state
from . import terminal
from .common import check_device
from .data.given import Given
from .starting import Start


def run(name: str, train_on: Given, validate_on: Given, recipe: str, changes: Sequence[str],
        weights: str | None, backbone: Path | None, out: Path, resume: bool, overwrite: bool, device: str,
        cache: bool, augment: str | None = None) -> None:  # fmt: skip
    """Train and print the files that were written. The class count is the data set's unless it is set."""
    start = Start.of(name, weights, backbone)
    catalog = training.recipes.CATALOG
    require(recipe in catalog, f"--recipe must be one of {', '.join(catalog)}, got {recipe!r}")
    chosen = catalog[recipe]
    check_device(device)
    config = replace(chosen.config, out=str(out), resume=resume, overwrite=overwrite, device=device)
    if augment is not None:
        config = replace(config, augment=parse_transforms(augment))
    read = [*train_on.files(), *validate_on.files(), *start.inputs]
    check_outputs([out / file for file in state.FILES], "out", overwrite=True, inputs=read)
    state.check_folder_of_run(out, resume, overwrite)
    of_model, of_run = settings.parse(changes, start.config(), config)
    train_data = train_on.open(TRAIN, cache)
    val_data = validate_on.open(VALIDATION, cache) if validate_on else None
    config = replace(config, **of_run)
    torch.manual_seed(config.seed)  # for the new layers' weights too
    if start.name in chosen.presets:
        of_model = settings.merge(chosen.model, of_model)
    model = start.model(train_data.classes, of_model, config.freeze_norm)
    apart = training.recipes.differences(chosen, config, model, len(train_data))
    terminal.note(*(f"recipe {recipe}: {line}" for line in apart))
    result = training.fit(model, train_data, val_data, config)
    terminal.show(result.last_file)
    if result.best_file:
        terminal.show(f"{result.best_file}  AP {result.best:.3f}")
