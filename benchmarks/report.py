"""Figures to tables: ``python -m benchmarks.report figures.json [--only REGEX] [--readme FILE --mark NAME]``.

Prints a Markdown table of the rows that ``pytest benchmarks --rows figures.json`` wrote; with ``--readme`` it replaces
what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in that file. No figure in a README is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.timing import human


def table(report: dict[str, Any]) -> str:
    """One line per row: ours, the goal if it has one, the floor, every peer with its ratio; then models' stages."""
    machine = ", ".join(f"{k} {v}" for k, v in report["machine"].items())
    goals = any(row.get("goal") for row in report["rows"])
    lines = [
        f"Measured on: {machine}; threads: {sorted({r['threads'] for r in report['rows']})}.",
        "",
        f"| row | pyrcnn |{' goal |' if goals else ''} floor | peers (time, times ours) |",
        "|---|---|---|---|" + "---|" * goals,
    ]
    for row in report["rows"]:
        timings = dict(row["timings"])
        ours = timings.pop("pyrcnn")[0]
        floor = f"{human(row['floor'])} ({ours / row['floor']:.1f}×)" if row["floor"] else "–"
        ordered = sorted(timings.items(), key=lambda item: item[1][0])
        peers = " · ".join(f"{name} {human(t[0])} (**{t[0] / ours:.1f}×**)" for name, t in ordered) or "–"
        peers += f" ({row['note']})" if row.get("note") else ""
        goal = f" {human(row['goal'])} ({ours / row['goal']:.2f}×) |" if row.get("goal") else " – |" * goals
        lines.append(f"| {row['row']} | {human(ours)} |{goal} {floor} | {peers} |")
    models = [row for row in report["rows"] if "split" in row]
    return "\n".join(lines) + (f"\n\n{stage_table(models)}" if models else "")


def stage_table(rows: list[dict[str, Any]]) -> str:
    """One line per model row: the published speed, and where our time goes."""
    stages = list(dict.fromkeys(stage for row in rows for stage in row["split"]))
    lines = [f"| row | dtype | published | {' | '.join(stages)} |", "|" + "---|" * (3 + len(stages))]
    for row in rows:
        published = human(row["published"]) if row.get("published") else "–"
        times = " | ".join(human(row["split"][s]) if s in row["split"] else "–" for s in stages)
        lines.append(f"| {row['row']} | {row['dtype'].removeprefix('torch.')} | {published} | {times} |")
    return "\n".join(lines)


def replace_between(text: str, mark: str, content: str) -> str:
    """``text`` with what stands between the two marks replaced."""
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.S)
    if not pattern.search(text):
        raise SystemExit(f"there is no <!-- {mark} --> … <!-- /{mark} --> to fill")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, nargs="+")
    parser.add_argument("--readme", type=Path)
    parser.add_argument("--mark", default="benchmarks")
    parser.add_argument("--only", default="", help="a regular expression that the shown rows' names contain")
    arguments = parser.parse_args()
    reports = [json.loads(path.read_text()) for path in arguments.figures]
    for report in reports:
        report["rows"] = [row for row in report["rows"] if re.search(arguments.only, row["row"])]
    content = "\n\n".join(map(table, reports))
    if arguments.readme is None:
        print(content)
    else:
        arguments.readme.write_text(replace_between(arguments.readme.read_text(), arguments.mark, content))


if __name__ == "__main__":
    main()
