"""Draws a chart of the models: ``python -m benchmarks.measuring.plot models.json chart.svg``.

``models.json`` comes from ``pytest benchmarks/bench_models.py --rows models.json``. Each bar is a model, divided into
its stages; marks beside it show the peers and the published speed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

COLOURS = ("#9aa5b1", "#2f6db5", "#e0a030", "#4f9e63", "#b5523b", "#cfd5db")
MARKS = {
    "plain": ("|", "#222222"),
    "engine native, float32": ("d", "#555555"),
    "engine openvino, bfloat16": ("o", "#007a5a"),
    "engine openvino, float32": ("s", "#007a5a"),
    "torchvision": ("x", "#b00020"),
    "onnxruntime": ("+", "#b07000"),
    "openvino": ("v", "#007a5a"),
    "openvino bfloat16": ("^", "#007a5a"),
    "published": ("*", "#7a3db8"),
}


def draw(report: dict[str, Any], out: Path) -> None:
    """Write the chart in the format that the suffix of ``out`` names."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in report["rows"] if "split" in row]
    if not rows:
        raise SystemExit("figures must hold rows of models: run pytest benchmarks/bench_models.py --rows FILE")
    # models that take a second and more have a scale of their own
    parts = [[r for r in rows if (r["timings"]["pyrcnn"][0] >= 1) == slow] for slow in (False, True)]
    parts = [part for part in parts if part]
    figure, panels = pyplot.subplots(
        len(parts),
        figsize=(9, 1.6 + 0.42 * len(rows)),
        layout="constrained",
        squeeze=False,
        height_ratios=[len(part) for part in parts],
    )
    for axes, part in zip(panels[:, 0], parts, strict=True):
        panel(axes, part)
    panels[-1, 0].set_xlabel("milliseconds per image, batch 1 (published: on other hardware)")
    machine = report["machine"]
    panels[0, 0].set_title(f"{machine.get('gpu') or machine['cpu']}, {rows[0]['threads']} thread(s)", fontsize=9)
    figure.savefig(out)


def panel(axes: Any, rows: list[dict[str, Any]]) -> None:
    """A bar and marks for each row."""
    labelled: set[str] = set()

    def once(label: str) -> str | None:
        new = label not in labelled
        labelled.add(label)
        return label if new else None

    for y, row in enumerate(rows):
        # the shares of one run, scaled to the median of all runs
        total, left = row["timings"]["pyrcnn"][0], 0.0
        for colour, (stage, seconds) in zip(COLOURS, groups(row["split"]).items(), strict=False):
            width = 1e3 * total * seconds / sum(row["split"].values())
            axes.barh(y, width, left=left, color=colour, height=0.62, label=once(stage))
            left += width
        marks = {name: t[0] for name, t in row["timings"].items() if name != "pyrcnn"}
        if row.get("published"):
            marks["published"] = row["published"]
        for name, seconds in marks.items():
            if name not in MARKS:
                continue
            mark, colour = MARKS[name]
            axes.plot(1e3 * seconds, y, mark, color=colour, markersize=9, label=once(name), linestyle="none")
    axes.set_yticks(range(len(rows)), [row["row"].partition("[")[2].rstrip("]") or row["row"] for row in rows])
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, edgecolor="none", loc="best")


def groups(split: dict[str, float]) -> dict[str, float]:
    """Preprocessing, network, and everything else together."""
    named = {"preprocessing": split["preprocessing"], "network": split["network"]}
    return named | {"proposals, pooling, post-processing": sum(split.values()) - sum(named.values())}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    draw(json.loads(arguments.figures.read_text()), arguments.out)


if __name__ == "__main__":
    main()
