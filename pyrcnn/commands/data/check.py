"""``pyrcnn data check``: what is wrong with data sets, and what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...data import CocoDataset, Report
from ...data.formats import sources
from ...data.tools import checking
from .. import terminal

_NUMBERS = ("images", "images_without_objects", "objects", "crowds", "objects_with_keypoints", "image_sizes")
_QUANTILES = ("image_width", "image_height", "objects_per_image", "box_width", "box_height", "box_side", "box_aspect")


def run(given: Sequence[str], images: Path | None, decode: bool, json: bool) -> bool:
    """Print what is in the data sets and what is wrong; return whether nothing is."""
    datasets = []
    for source in given:
        loaded = sources.read(source, images if sources.takes_images(source) else None)
        annotations, index = loaded.load()
        datasets.append(CocoDataset(index, annotations.categories, loaded.report))
    for source, dataset in zip(given, datasets, strict=True):
        with terminal.bar(f"checking {source}", len(dataset), json) as advance:
            checking.check(dataset, decode, advance)
    copies = Report("images")
    for group in checking.find_copies(datasets):
        names = ", ".join(map(str, group[1:4])) + (" …" if len(group) > 4 else "")
        copies.add(f"image {group[0]}", f"the same content is in {names}", "noted")
    found = [checking.describe(dataset) for dataset in datasets]
    reports = [*(dataset.report for dataset in datasets), copies]
    if json:
        problems = [{"where": p.where, "what": p.what, "action": p.action, "count": p.count}
                    for report in reports for p in report.problems]  # fmt: skip
        terminal.print_json({"data": found, "copies": len(copies), "problems": problems})
    else:
        for numbers in found:
            _show(numbers)
        for report in reports:
            terminal.show(*str(report).split("\n"))
    return not any(reports)


def _show(numbers: dict[str, Any]) -> None:
    terminal.show(numbers["source"])
    rows = [(f"  {name.replace('_', ' ')}", str(numbers[name])) for name in _NUMBERS]
    rows += [(f"  {name} objects by area", str(count)) for name, count in numbers["areas"].items()]
    terminal.show(*terminal.table(*_head_and_rest(rows)))
    header = ["  quantiles", "min", "5 %", "median", "95 %", "max"]
    rows_ = [[f"  {name.replace('_', ' ')}", *(f"{v:g}" for v in numbers[name].values())]
             for name in _QUANTILES if numbers[name]]  # fmt: skip
    terminal.print_table(header, rows_, right=header[1:])
    classes = [[f"  {c['name']}", str(c["id"]), str(c["objects"]), str(c["images"])] for c in numbers["classes"]]
    terminal.print_table(["  class", "id", "objects", "images"], classes, right=["objects", "images"])


def _head_and_rest(rows: list[Any]) -> tuple[Any, list[Any]]:
    return rows[0], rows[1:]
