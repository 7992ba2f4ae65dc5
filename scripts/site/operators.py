"""What an operator's page says beside its docstring: gradients, dtypes and devices from the tests, and figures."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import re
from collections.abc import Iterator
from typing import Any

import torch

from scripts.site import names
from scripts.site.links import ROOT

PAGES = ROOT / "docs/operators"
FIGURES = ROOT / "benchmarks/figures"
DIRECTIVE = re.compile(r"^<!-- site: (\w+)(?: (\w+))? -->$", re.MULTILINE)
# Operators whose rows of the benchmarks have other names than the operator.
ROWS = {
    "decode_boxes": "decode_boxes|decode_and_clip",
    "roi_align": "roi_align|roi_align_training",
}  # others: their name
MOST_ROWS = 4


def names_on(text: str) -> list[str]:
    """The names whose docstrings a page shows."""
    return [name for kind, name in DIRECTIVE.findall(text) if kind == "operator"]


def pages() -> dict[str, list[str]]:
    """Each operator's page, relative to ``docs/`` → the names on it."""
    return {f"operators/{path.name}": names_on(path.read_text()) for path in sorted(PAGES.glob("*.md"))}


@functools.cache
def cases() -> dict[str, Any]:
    """The cases of the contract tests, by the name of the operator."""
    return {case.name: case for case in importlib.import_module("tests.cases").all_cases()}


@functools.cache
def _read(path: str) -> str:
    return (ROOT / path).read_text()


@functools.cache
def _on_cuda() -> set[str]:
    files = (ROOT / "csrc").rglob("*.cu")
    return {name for file in files for name in re.findall(r'm\.impl\("(\w+)"', file.read_text())}


def native(case: Any) -> str | None:
    """The native operator that a case calls, or None for an operator in plain torch."""
    if case.native is None:
        return None
    shape = next(iter(case.shapes.values()))
    inputs = case.inputs(torch.Generator().manual_seed(0), torch.device("cpu"), torch.float32, shape)
    return case.native(inputs)[0]._schema.name.partition("::")[2]


def facts(name: str) -> Iterator[tuple[str, str]]:
    """What the contract tests, the registrations and the headers say of an operator."""
    case = cases().get(name)
    if case is not None:
        op = native(case)
        yield "Gradient", _gradient(case)
        yield "Dtypes", ", ".join(str(dtype).removeprefix("torch.") for dtype in case.dtypes)
        if op is None:
            yield "Runs as", "plain torch, on every device of torch"
        else:
            yield "Runs as", f"`torch.ops.pyrcnn.{op}`, kernels for CPU" + (" and CUDA" if op in _on_cuda() else "")
        if case.layouts:
            yield "Memory formats", f"NCHW and NHWC; the result has that of {_list(case.layouts)}"
    from pyrcnn import numpy

    also = [f"{names.link('pyrcnn.numpy', name)} of `pyrcnn.numpy`"] if name in numpy.__all__ else []
    if re.search(rf"\b{name}\(", _read("include/pyrcnn/ops.h")):
        also.append(f"`pyrcnn::{name}` of `<pyrcnn/ops.h>`")
    if also:
        yield "Also", ", ".join(also)


def _gradient(case: Any) -> str:
    once = re.search(r"^ONCE_ONLY = (.*)$", _read("tests/ops/test_derivatives.py"), re.MULTILINE)
    assert once is not None, "tests/ops/test_derivatives.py must list the operators that have one derivative"
    if not case.grads:
        return "none" if case.native is not None else "that of torch's operations, where they have one"
    text = f"to {_list(case.grads)}; " + ("once" if case.name in ast.literal_eval(once[1]) else "twice")
    rois = hasattr(torch.ops.pyrcnn, f"_{native(case)}_rois_backward")
    return text + ("; to the coordinates of RoIs; once" if rois else "")


def _list(arguments: tuple[str, ...]) -> str:
    return ", ".join(f"`{argument}`" for argument in arguments)


def speed(name: str) -> str:
    """The operator's rows of the benchmarks, with machine, date and command; empty if nothing was measured."""
    pattern = re.compile(rf"({ROWS.get(name, name)})(\[|$)")
    lines: list[str] = []
    for path in sorted(FIGURES.glob("*.json")):
        stored = json.loads(path.read_text())
        for table in stored["tables"]:
            rows = [row for row in table["cells"] if pattern.match(row[0])]
            if table["name"] == "ops" and rows:
                step = -(-len(rows) // MOST_ROWS)
                command = f"pytest benchmarks/bench_ops.py -k {name}"
                lines += [f"{stored['title']}, one thread, {stored['date']}, `{command}`:", ""]
                lines += [_row(table["columns"]), "|" + "---|" * len(table["columns"])]
                lines += [*map(_row, rows[::step]), ""]
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def section(name: str) -> str:
    """The docstring of a public name, and the tables about it."""
    lines = [names.block("pyrcnn.ops", name)]
    rows = list(facts(name))
    if rows:
        lines += [*(f"- **{key}**: {value}" for key, value in rows), ""]
    measured = speed(name)
    return "\n".join([*lines, measured])


def index() -> str:
    """The table of all operators with their pages."""
    from scripts.site.reference import cell, summary

    documented = names.documented("pyrcnn.ops")
    lines = ["| operator | |", "|---|---|"]
    for found in pages().values():
        for name in found:
            value = documented[name]
            lines.append(f"| {names.link('pyrcnn.ops', name)} | {cell(summary(value, value.__module__))} |")
    return "\n".join(lines)
