"""What the folder of a run tells about it: ``config.json``, from which it can be continued too."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import nn

from ... import environment
from ...atomic import replacing
from ...data import parse_transforms
from ...data.wrappers import labels_of
from ...errors import InputError, require
from ...models import saved
from ...models.presets import from_config
from ..config import TrainConfig
from ..state import CONFIG

_FORMAT = 1


def write(folder: Path, config: TrainConfig, model: nn.Module, train_data: Any, val_data: Any, about: Mapping[str, Any],
          resumed: bool) -> None:  # fmt: skip
    """Write ``config.json``: settings, versions, machine, data, model, and ``about``, what the caller knows besides.

    A run that is continued keeps what it was begun with, and gets an entry in the list ``resumed``.
    """
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    settings = {**vars(config), "augment": [repr(transform) for transform in config.augment]}
    entry: dict[str, Any] = {
        "format": _FORMAT, "begun": now, "environment": environment.describe(config.device), "settings": settings,
        "model": _model(model), "parameters": sum(p.numel() for p in model.parameters()),
        "data": {"train": _data(train_data), "val": None if val_data is None else _data(val_data)},
        **about, "resumed": [],
    }  # fmt: skip
    if resumed and (folder / CONFIG).is_file():
        old = read(folder)
        resumed_so_far = [*old.get("resumed", []), {"at": now, "environment": entry["environment"]}]
        entry = {**entry, **old, "settings": settings, "resumed": resumed_so_far}
    with replacing(folder / CONFIG, argument="out", flush=False) as temporary:
        temporary.write_text(json.dumps(entry, indent=1, default=str) + "\n", encoding="utf-8")


def _model(model: nn.Module) -> dict[str, Any] | None:
    try:
        return json.loads(saved.metadata(model)[saved.KEY])
    except (InputError, TypeError, ValueError):  # a user's model, without a configuration that JSON can hold
        return {"family": type(model).__name__}


def _data(dataset: Any) -> dict[str, Any]:
    """Return the source of a data set and how much it holds."""
    found: dict[str, Any] = {"images": len(dataset)}
    if (report := getattr(dataset, "report", None)) is not None:
        found["source"] = report.source
    _, classes = labels_of(dataset)
    if (records := getattr(dataset, "records", None)) is not None:
        counts = Counter(label for record in records for label in record.labels[~record.crowd].tolist())
        found["objects"] = {name: counts[label] for label, name in enumerate(classes)}
    return found


def read(folder: Path) -> dict[str, Any]:
    """Return what :func:`write` wrote; :class:`pyrcnn.InputError` if it is missing, damaged or of a later version."""
    path = folder / CONFIG
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"resume must name the folder of a run, got {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"resume must name the folder of a run, got {path}, which is damaged ({error})") from None
    good = isinstance(entry, dict) and isinstance(entry.get("settings"), dict) and entry.get("format") == _FORMAT
    require(good, f"resume must name the folder of a run, got {path}, which this version does not know")
    return entry


def settings_of(entry: Mapping[str, Any], folder: Path) -> TrainConfig:
    """Return the settings in ``config.json``; :class:`pyrcnn.InputError` for transforms that text cannot hold."""
    given = dict(entry["settings"])
    try:
        given["augment"] = parse_transforms(", ".join(given["augment"])) if given["augment"] else ()
        known = {f.name for f in fields(TrainConfig)}
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if name in known
        }
        return TrainConfig(**values)
    except (InputError, KeyError, TypeError) as error:
        raise InputError(
            f"resume must find settings in {folder / CONFIG} that can be read back ({error}); "
            "continue this run as it was begun: with its options, or by train.fit"
        ) from None


def model_of(entry: Mapping[str, Any], folder: Path) -> nn.Module:
    """Return the model that ``config.json`` describes, with random weights."""
    about = entry.get("model") or {}
    good = isinstance(about, dict) and {"family", "config", "classes", "category_ids"} <= about.keys()
    require(good, f"resume must find a model of pyrcnn in {folder / CONFIG}; continue this run by train.fit")
    model = from_config(saved.config_of(about, str(folder / CONFIG)))
    model.classes, model.category_ids = about["classes"], about["category_ids"]
    return model


def file_entry(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the full path of a file and its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"file": os.path.abspath(path), "sha256": digest.hexdigest()}
