"""Turns measurements into tables, so that no figure is typed by hand.

    python -m benchmarks.report ops.json                                  # print the tables
    python -m benchmarks.report ops.json --store zen5 --table ops         # keep them and write FIGURES.md anew
    python -m benchmarks.report --readme README.md --from zen5:ops --only 'nms|roi_align'   # fill a marked table
    python -m benchmarks.report --write                                   # write FIGURES.md anew

Inputs are JSON files of ``pytest benchmarks --rows FILE`` and text files with a Markdown table, as the other scripts
print it. ``figures/MACHINE.json`` holds the tables of one machine; other machines' files stay as they are. FIGURES.md
has one section for each of these files, the newest measurement first.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring.timing import format_seconds

HERE = Path(__file__).parent
FIGURES = HERE / "figures"
TITLES = {  # table → its heading, in the order of the sections
    "ops": "Operators, one thread",
    "threads": "Operators, two threads",
    "models": "Models",
    "engines": "Engines beside OpenVINO itself",
    "stages": "Stages of the models",
    "precision": "Average precision by dtype and engine",
    "detect": "`pyrcnn detect` on a folder",
    "versions": "Operators before and after a change",
    "convolutions": "Convolutions beside OpenVINO's",
    "layers": "Layers of one model",
    "memory": "Peak memory of the operators",
}


@dataclass
class Table:
    """Columns and cells as they are shown, and what was measured where."""

    name: str
    measured: str
    note: str
    columns: list[str]
    cells: list[list[str]]

    def markdown(self) -> str:
        """The table, below the line that says where it was measured."""
        lines = [f"| {' | '.join(self.columns)} |", "|" + "---|" * len(self.columns)]
        lines += [f"| {' | '.join(row)} |" for row in self.cells]
        return "\n\n".join(part for part in (self.measured, "\n".join(lines)) if part)

    def only(self, expression: str) -> Table:
        """The rows whose name, the first cell, contains the regular expression."""
        return Table(**{**asdict(self), "cells": [row for row in self.cells if re.search(expression, row[0])]})


def tables_of_run(report: dict[str, Any], name: str) -> list[Table]:
    """One row per measurement: ours, its goal if there is one, its bound, the peers; then the models' stages."""
    machine = ", ".join(f"{k} {v}" for k, v in report["machine"].items())
    rows = report["rows"]
    measured = f"Measured on: {machine}; threads: {sorted({r['threads'] for r in rows})}."
    goals = any(row.get("goal") for row in rows)
    bounds = any(row.get("bound") for row in rows)
    columns = ["row", "pyrcnn", *["goal"] * goals, *["lower bound"] * bounds, "peers (time, times ours)"]
    cells = []
    for row in rows:
        timings = dict(row["timings"])
        ours = timings.pop("pyrcnn")[0]
        digits = 2 if "split" in row else 1  # models are closer to their peers than operators
        ordered = sorted(timings.items(), key=lambda item: item[1][0])
        peers = (
            " · ".join(f"{peer} {format_seconds(t[0])} (**{t[0] / ours:.{digits}f}×**)" for peer, t in ordered) or "–"
        )
        peers += f" ({row['note']})" if row.get("note") else ""
        values = {"goal": row.get("goal"), "lower bound": row.get("bound")}
        shown = [f"{format_seconds(v)} ({ours / v:.1f}×)" if v else "–" for c, v in values.items() if c in columns]
        cells.append([row["row"], format_seconds(ours), *shown, peers])
    tables = [Table(name, measured, "", columns, cells)]
    models = [row for row in rows if "split" in row]
    if models:
        stages = list(dict.fromkeys(stage for row in models for stage in row["split"]))
        cells = [
            [row["row"], row["dtype"].removeprefix("torch."), row.get("engine", "–"),
             format_seconds(row["published"]) if row.get("published") else "–",
             *(format_seconds(row["split"][s]) if s in row["split"] else "–" for s in stages)]
            for row in models
        ]  # fmt: skip
        tables.append(Table("stages", measured, "", ["row", "dtype", "engine", "published", *stages], cells))
    return tables


def tables_of_text(text: str, name: str) -> list[Table]:
    """The Markdown tables in ``text``, those with the same columns as one."""
    found: list[Table] = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.M):
        rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in block.splitlines()]
        columns, cells = rows[0], rows[2:]
        if found and found[-1].columns == columns:
            found[-1].cells += cells
        else:
            found.append(Table(name, "", "", columns, cells))
    measured = re.search(r"^Measured on: .*$", text, re.M)
    for table in found:
        table.measured = measured[0] if measured else ""
    return found


def read(path: Path, name: str) -> list[Table]:
    """The tables of a measurement."""
    text = path.read_text()
    return tables_of_run(json.loads(text), name) if path.suffix == ".json" else tables_of_text(text, name)


def load_stored(machine: str) -> dict[str, Any]:
    """What is kept of a machine: ``title``, ``date`` and ``tables``."""
    path = FIGURES / f"{machine}.json"
    return json.loads(path.read_text()) if path.exists() else {"title": machine, "date": "", "tables": []}


def store(machine: str, tables: list[Table], title: str | None, note: str, date: str) -> None:
    """Keep ``tables`` for ``machine``, in place of those with the same names."""
    kept = load_stored(machine)
    kept["title"], kept["date"] = title or kept["title"], date
    for table in tables:
        table.note = note or table.note or next((t["note"] for t in kept["tables"] if t["name"] == table.name), "")
    names = {table.name for table in tables}
    merged = [t for t in kept["tables"] if t["name"] not in names] + [asdict(table) for table in tables]
    order = list(TITLES)
    merged.sort(key=lambda t: order.index(t["name"]) if t["name"] in order else len(order))
    kept["tables"] = merged
    FIGURES.mkdir(exist_ok=True)
    rows = iter([json.dumps(row, ensure_ascii=False) for table in merged for row in table["cells"]])
    outline = {**kept, "tables": [{**t, "cells": [None] * len(t["cells"])} for t in merged]}
    # a table row on one line keeps the file short and its changes readable
    text = re.sub(
        r"^ +null", lambda _: "    " + next(rows), json.dumps(outline, indent=1, ensure_ascii=False), flags=re.M
    )
    (FIGURES / f"{machine}.json").write_text(text + "\n")


def write_figures() -> None:
    """Write FIGURES.md from everything that is kept."""
    lines = [
        "# Figures",
        "",
        "Written by `python -m benchmarks.report`; [README.md](README.md) says how rows are measured.",
        "Compare ratios rather than times: the machines are virtual and shared.",
    ]
    machines = sorted(
        (path.stem for path in FIGURES.glob("*.json")), key=lambda m: load_stored(m)["date"], reverse=True
    )
    for machine in machines:
        kept = load_stored(machine)
        lines += ["", f"## {kept['title']}", "", f"Last measured on {kept['date']}."]
        for entry in kept["tables"]:
            table = Table(**entry)
            lines += ["", f"### {TITLES.get(table.name, table.name)}", ""]
            lines += [*([table.note, ""] if table.note else []), table.markdown()]
        if (FIGURES / f"{machine}.svg").exists():
            lines += ["", f"![Milliseconds per image of every preset](figures/{machine}.svg)"]
    (HERE / "FIGURES.md").write_text("\n".join(lines) + "\n")


def replace_between(text: str, mark: str, content: str) -> str:
    """``text`` with everything between the two marks replaced."""
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.S)
    if not pattern.search(text):
        raise SystemExit(f"--readme must hold <!-- {mark} --> … <!-- /{mark} -->")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurements", type=Path, nargs="*")
    parser.add_argument("--only", default="", help="keep the rows whose names contain this regular expression")
    parser.add_argument("--store", metavar="MACHINE", help="keep the tables in figures/MACHINE.json")
    parser.add_argument("--table", default="ops", help=f"the table's name: {', '.join(TITLES)}, or another")
    parser.add_argument("--title", help="of the machine's section")
    parser.add_argument("--note", default="", help="what a reader must know about the table")
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    parser.add_argument("--from", dest="kept", metavar="MACHINE:TABLE", help="take a table that is kept")
    parser.add_argument("--readme", type=Path, help="put the tables between the marks in this file")
    parser.add_argument("--mark", default="benchmarks")
    parser.add_argument("--write", action="store_true", help="write FIGURES.md anew")
    arguments = parser.parse_args()
    tables = [table for path in arguments.measurements for table in read(path, arguments.table)]
    if arguments.kept:
        machine, _, name = arguments.kept.partition(":")
        tables += [Table(**t) for t in load_stored(machine)["tables"] if t["name"] == name]
    tables = [table.only(arguments.only) for table in tables]
    if not tables and not arguments.write:
        parser.error("name a measurement, --from or --write")
    if arguments.store:
        store(arguments.store, tables, arguments.title, arguments.note, arguments.date)
    content = "\n\n".join(table.markdown() for table in tables)
    if arguments.readme:
        arguments.readme.write_text(replace_between(arguments.readme.read_text(), arguments.mark, content))
    if arguments.store or arguments.write:
        write_figures()
    elif not arguments.readme:
        print(content)


if __name__ == "__main__":
    main()
