"""The curves of a training run: its log as a table and as a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...atomic import replacing
from ...errors import needing
from ...texts import printable
from ..scoring import CLASS

_FEW = 40  # points of a curve that are marked: a single one would not be seen
_MOST_CLASSES = 10  # with a curve of their own
_VALIDATION = "val_"


def read(log: Path) -> list[dict[str, Any]]:
    """Return the entries of ``metrics.jsonl``, those of one step as one; a line that was cut short is left out."""
    steps: dict[int, dict[str, Any]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            steps.setdefault(entry["step"], {}).update(entry)
        except (ValueError, KeyError, TypeError):
            continue
    return [steps[step] for step in sorted(steps)]


def write_table(log: Path, table: Path) -> None:
    """Write the entries of the log as CSV: a column for each name, a row for each step that has an entry."""
    entries = read(log)
    columns = dict.fromkeys(["step", "epoch", *(name for entry in entries for name in entry)])
    with (
        replacing(table, argument="out", flush=False) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(entries)


def draw(log: Path, picture: Path) -> None:
    """Draw losses, learning rate and scores over the epochs as PNG."""
    with needing("matplotlib", "drawing curves"):
        import matplotlib
        from matplotlib.figure import Figure

    entries = read(log)
    losses = _names(entries, lambda n: n not in ("step", "epoch", "learning_rate", "gradient_norm") and not _scored(n))
    scores = [n for n in _names(entries, _scored) if n.removeprefix(_VALIDATION) in ("AP", "AP50", "AP75", "AR100")
              or n.startswith(f"{_VALIDATION}keypoints_AP")]  # fmt: skip
    classes = _names(entries, lambda n: n.startswith(_VALIDATION + CLASS))
    with matplotlib.rc_context({"text.parse_math": False, "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(10, 7), dpi=110)
        figure.subplots_adjust(left=0.07, right=0.98, top=0.95, bottom=0.07, hspace=0.3, wspace=0.18)
        panels = figure.subplots(2, 2)
        _plot(panels[0, 0], "losses", entries, losses)
        _plot(panels[0, 1], "learning rate", entries, ["learning_rate"])
        _plot(panels[1, 0], "scores on the validation data", entries, scores, low=0.0)
        _plot(panels[1, 1], "AP of each class", entries, classes[:_MOST_CLASSES], low=0.0)
        with replacing(picture, argument="out", flush=False) as temporary:
            figure.savefig(temporary, format="png")


def _scored(name: str) -> bool:
    return name.startswith(_VALIDATION)


def _names(entries: Sequence[dict[str, Any]], wanted: Any) -> list[str]:
    return [name for name in dict.fromkeys(name for entry in entries for name in entry) if wanted(name)]


def _plot(axes: Any, title: str, entries: Sequence[dict[str, Any]], names: Sequence[str],
          low: float | None = None) -> None:  # fmt: skip
    for name in names:
        points = [(e["epoch"], e[name]) for e in entries if isinstance(e.get(name), int | float) and e[name] > -1]
        if points:
            label = printable(name.removeprefix(_VALIDATION).removeprefix(CLASS))[:24]
            dots = {"marker": "."} if len(points) < _FEW else {}
            axes.plot(*zip(*points, strict=True), label=f"\u200b{label}", linewidth=1.3, **dots)
    axes.set(title=title, xlabel="epoch")
    if low is not None:
        axes.set_ylim(bottom=low)
    if len(axes.lines) > 1:
        axes.legend(fontsize=8)
