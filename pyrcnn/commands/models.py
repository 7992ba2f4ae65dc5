"""``pyrcnn models``: the models that can be built."""

from __future__ import annotations

from typing import Any

from ..checkpoints import cards, zoo
from ..models import names
from . import terminal


def run(as_json: bool) -> None:
    """Print a line per model; accuracy and speed are those that were published with the weights."""
    listing = [cards.card(name) for name in names()]
    if as_json:
        terminal.print_json(listing)
        return
    header = ("model", "params", "input", "mAP", "ms", "weights")
    rows = []
    for entry in listing:
        speed = "" if entry["milliseconds"] is None else f"{entry['milliseconds']:.0f}"
        accuracy = cards.accuracy(entry).replace(" / ", "/").replace("keypoints", "kpts")
        size, side = f"{entry['parameters'] / 1e6:.1f}M", entry["input"].replace(" ", "")
        rows.append((entry["name"], size, side, accuracy, speed, ", ".join(entry["weights"])))
    terminal.print_table(header, rows, right=("params", "ms"))


def urls(as_json: bool) -> None:
    """Print where the published weights are: a line per model, or one JSON object."""
    if as_json:
        terminal.print_json(zoo.URLS)
    else:
        terminal.show(*(f"{name} {url}" for name, url in zoo.URLS.items()))


def recipes(as_json: bool) -> None:
    """Print the recipes of ``pyrcnn train``: a line each, or one JSON object."""
    from ..train.recipes import CATALOG, Recipe

    if as_json:
        terminal.print_json({name: _described(recipe) for name, recipe in CATALOG.items()})
        return

    def length(recipe: Recipe) -> str:
        if not recipe.config.steps:
            return f"{recipe.config.epochs:g} epochs"
        return " + ".join(f"{part.steps:_}" for part in recipe.stages or [recipe.config]) + " steps"

    def batch(recipe: Recipe) -> str:
        return ", ".join(map(str, sorted({p.batch_size * p.accumulate for p in recipe.stages or [recipe.config]})))

    rows = [(name, batch(r), length(r), r.about, ", ".join(r.presets)) for name, r in CATALOG.items()]
    terminal.print_table(("recipe", "batch", "length", "reproduces", "models"), rows, right=("batch",))


def _described(recipe: Any) -> dict[str, Any]:
    settings = {name: str(value) if name == "augment" else value for name, value in vars(recipe.config).items()}
    return {"about": recipe.about, "presets": recipe.presets, "images": recipe.images, "hardware": recipe.hardware,
            "departs": recipe.departs, "model": dict(recipe.model), "settings": settings,
            "stages": [{"steps": s.steps, "batch_size": s.batch_size} for s in recipe.stages]}  # fmt: skip
