"""Curves of an evaluation as SVG that takes its text colour from the page, for light and dark ones."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import needing
from ..texts import printable
from .analysis import Evaluation, ScoreCurve

COLOURS = ("#3b82c4", "#e07b39", "#3fa66b", "#c94f4f", "#8b6fc0", "#9a7b4f", "#d46fb0", "#7a8a99", "#a8a032", "#3aa6b9")
_INK = "#010203"  # stands for the colour of the page's text in what matplotlib writes
_NAME = 24  # characters of a class in a legend
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 9, "axes.edgecolor": _INK, "axes.labelcolor": _INK, "text.color": _INK, "xtick.color": _INK,
    "ytick.color": _INK, "axes.grid": True, "grid.color": _INK, "grid.alpha": 0.15, "legend.framealpha": 0.0,
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def by_class(evaluation: Evaluation) -> str:
    """Return precision over recall at IoU 0.5: of the classes with most objects in colour, of the others in grey."""
    with _figure("by class", 6.4, 4.0) as (axes, svg):
        order = np.argsort([-c.objects for c in evaluation.classes], kind="stable").tolist()
        for k in order[len(COLOURS) :]:
            axes.plot(evaluation.recalls, _precision(evaluation, k, 0), color="#888888", alpha=0.4, linewidth=0.8)
        for k, colour in zip(order, COLOURS, strict=False):
            axes.plot(evaluation.recalls, _precision(evaluation, k, 0), color=colour, label=_name(evaluation, k))
        _recall_axes(axes)
        _legend(axes)
    return svg[0]


def by_size(evaluation: Evaluation, k: int | None = None) -> str:
    """Return precision over recall at IoU 0.5 per size of objects: of one class, or the mean of all."""
    with _figure(f"by size {k}", *((6.4, 4.0) if k is None else (3.2, 2.4))) as (axes, svg):
        for a, (size, colour) in enumerate(zip(evaluation.sizes, COLOURS, strict=False)):
            values = _mean_precision(evaluation, a) if k is None else _precision(evaluation, k, a)
            if values is not None and (values > -1).all():
                axes.plot(evaluation.recalls, values, color=colour, label=size, linewidth=2.2 if a == 0 else 1.2)
        _recall_axes(axes)
        _legend(axes)
    return svg[0]


def by_score(curve: ScoreCurve) -> str:
    """Return precision, recall and F1 of the detections above each score, at IoU 0.5."""
    with _figure("by score", 6.4, 4.0) as (axes, svg):
        for name, values, colour in zip(("precision", "recall", "F1"), (curve.precision, curve.recall, curve.f1),
                                        COLOURS, strict=False):  # fmt: skip
            axes.plot(curve.scores, values, color=colour, label=name, drawstyle="steps-pre")
        axes.set(xlabel="score", ylabel="", xlim=(0, 1), ylim=(0, 1.02))
        _legend(axes)
    return svg[0]


def confusion(table: np.ndarray) -> str:
    """Return a heat map of the shares of each row of a confusion matrix [C + 1, C + 1]; darker is more."""
    with _figure("confusion", 6.4, 6.0) as (axes, svg):
        shares = table / np.maximum(table.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xlabel="label of the detection; last: none", ylabel="label of the object; last: none")
        axes.grid(False)
    return svg[0]


def _precision(evaluation: Evaluation, k: int, size: int) -> np.ndarray:
    return evaluation.precision[0, :, k, size]


def _mean_precision(evaluation: Evaluation, size: int) -> np.ndarray | None:
    of_classes = evaluation.precision[0, :, :, size]
    of_classes = of_classes[:, (of_classes > -1).all(0)]
    return of_classes.mean(1) if of_classes.size else None


def _name(evaluation: Evaluation, k: int) -> str:
    name = printable(evaluation.classes[k].name)
    name = name if len(name) <= _NAME else f"{name[:_NAME]}…"
    return f"\u200b{name}" if name.startswith("_") else name  # matplotlib's legends leave out names with an underscore


def _recall_axes(axes: Any) -> None:
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left")


@contextmanager
def _figure(name: str, width: float, height: float) -> Iterator[tuple[Any, list[str]]]:
    """``with _figure(name, inches, inches) as (axes, svg):`` draw on the axes; then ``svg[0]`` is the text."""
    with needing("matplotlib", "drawing curves"):
        import matplotlib
        from matplotlib.figure import Figure

    svg: list[str] = []
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # characters that matplotlib's font lacks: the page has others
        figure = Figure(figsize=(width, height))
        # Room for labels in inches; matplotlib's own layout would take several times as long as the drawing.
        yield figure.add_axes((0.55 / width, 0.45 / height, 1 - 0.7 / width, 1 - 0.55 / height)), svg
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg.append(_inline(file.getvalue(), name))


def _inline(text: str, name: str) -> str:
    """Return matplotlib's file as an element of a page, with ids that no other element of the page has."""
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', text))
    prefix = re.sub(r"\W", "-", name)
    text = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", text)
    head = r'<svg \1 xmlns:xlink="http://www.w3.org/1999/xlink" aria-hidden="true" focusable="false">'
    return re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', head, text)
