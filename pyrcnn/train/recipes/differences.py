"""What differs between a run and the published run whose recipe it uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from torch import nn

from ...models import PRESETS
from ...models.presets import changed, differing
from ..config import TrainConfig
from .base import Recipe

# Settings that do not change what is learned, or are the user's own business.
_FREE = frozenset({"out", "resume", "overwrite", "device", "workers", "seed", "evaluate_every", "checkpoint_minutes",
                   "log_every", "best_by", "compile", "channels_last", "precision", "bf16"})  # fmt: skip
_CLOSE = 0.02  # data sets are the same if their sizes differ by less: images without objects may be left out


def differences(recipe: Recipe, config: TrainConfig, model: nn.Module, images: int | None = None) -> list[str]:
    """Return what differs from the published run, one line each; none for a recipe that reproduces no published run.

    Args:
        recipe: one of ``train.recipes.CATALOG``.
        config: the settings of the run.
        model: the detector to train.
        images: how many images the run learns from, if known.

    Example:
        >>> from dataclasses import replace
        >>> from pyrcnn import models, train
        >>> recipe = train.recipes.CATALOG["centernet_mobilenet"]
        >>> model = models.build("centernet_mobilenet_v2_fpn_512")
        >>> differences(recipe, replace(recipe.config, batch_size=16, device="cuda"), model)
        ['batch_size is 16, published with 128']
    """
    if not recipe.presets:
        return []
    found = list(_of_model(recipe, model))
    found += [
        f"{field.name} is {_short(getattr(config, field.name))}, published with {_short(published)}"
        for field in fields(config)
        if field.name not in _FREE
        and getattr(config, field.name) != (published := getattr(recipe.config, field.name))
        and not (field.name == "epochs" and config.steps)  # then epochs count for nothing
    ]
    if images is not None and recipe.images and abs(images - recipe.images) > _CLOSE * recipe.images:
        line = f"train_data has {images} images, published with {recipe.images}"
        if config.steps:
            epochs = config.steps * config.batch_size * config.accumulate / images
            line += f": {config.steps} steps are {epochs:.3g} epochs"
        found.append(line)
    if config.device.partition(":")[0] == "cpu":
        found.append(f"device is cpu, published with {recipe.hardware}")
    return found


def _of_model(recipe: Recipe, model: nn.Module) -> Iterator[str]:
    config = getattr(model, "config", None)
    candidates = [changed(PRESETS[name], **recipe.model) for name in recipe.presets]
    same = [published for published in candidates if type(published) is type(config)]
    if not same:
        yield f"the model is a {type(model).__name__}, published with {' or '.join(recipe.presets)}"
        return
    apart = min((list(differing(config, published)) for published in same), key=len)
    if len(apart) > 6:  # another model altogether
        shown = ", ".join(f"{name} {_short(own)}" for name, own, _ in apart[:3])
        yield f"the model is another one ({shown}, …), published with {' or '.join(recipe.presets)}"
        return
    for name, own, published in apart:
        yield f"the model's {name} is {_short(own)}, published with {_short(published)}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_short, value))})" if value else "none"
    return str(value)
