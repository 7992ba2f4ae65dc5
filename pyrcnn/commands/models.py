"""``pyrcnn models``: the models that can be built."""

from __future__ import annotations

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
