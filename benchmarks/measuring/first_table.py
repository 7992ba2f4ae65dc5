"""Writes the README's tables from what is kept in ``figures/``: ``python -m benchmarks.measuring.first_table``.

``tests/test_documents.py`` fails if the README holds another table.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.report import Table, load_stored, replace_between

README = Path(__file__).parents[2] / "README.md"
OPERATORS = {  # row → how the README calls it
    "nms[rpn-1000-0.7]": "`nms`, 1,000 boxes of an RPN",
    "nms[rpn-20000-0.7]": "`nms`, 20,000 boxes",
    "batched_nms[80-5000-0.5]": "`batched_nms`, 5,000 boxes of 80 classes",
    "roi_align[float32-1000-2-nchw]": "`roi_align`, 1,000 RoIs, 256 channels",
    "roi_align_levels[float32-1000-nhwc]": "`roi_align_levels`, the same over four levels, channels_last",
    "box_iou[1000-1000]": "`box_iou`, 1,000 × 1,000",
    "match_boxes": "`match_boxes`, the anchors of an image",
    "generate_proposals[1-1000]": "`generate_proposals`, an RPN's postprocessing",
    "roi_detections[1000-90-0.05]": "`roi_detections`, a RoI head's postprocessing, 90 classes",
    "heatmap_peaks[1-80-128-nchw]": "`heatmap_peaks`, 80 classes, 128 × 128",
}
MODELS = ("centernet_mobilenet_v2_fpn_512", "centernet_resnet50_v1_fpn_512", "faster_rcnn_resnet50_fpn")
MACHINES = {"zen3-avx2": "Zen 3, float32, engine native", "zen4-avx512": "Zen 4, bfloat16, engine openvino"}
PEER = re.compile(r"(.+?) ([\d.]+ (?:ns|µs|ms|s)) \(\*\*([\d.]+)×\*\*\)")
TORCH = ("torchvision", "torch")  # what most users call today


def rows_of(machine: str, name: str) -> tuple[str, dict[str, list[str]]]:
    """Return the date of a machine's figures, and a table's rows by name."""
    stored = load_stored(machine)
    table = next(Table(**t) for t in stored["tables"] if t["name"] == name)
    return stored["date"], {row[0]: row for row in table.cells}


def peers(cell: str) -> dict[str, tuple[float, str]]:
    """Return the peers of a row: name → ratio to ours, and time with ratio as shown."""
    found = filter(None, (PEER.match(part) for part in cell.split(" · ")))
    return {name: (float(ratio), f"{time} ({float(ratio):,.3g}×)") for name, time, ratio in (m.groups() for m in found)}


def best(found: dict[str, tuple[float, str]], wanted: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> str:
    """Return the fastest of the peers, by name unless only one is ``wanted``."""
    kept = {n: v for n, v in found.items() if (not wanted or n in wanted) and not n.startswith(without or ("\0",))}
    if not kept:
        return "–"
    name = min(kept, key=lambda n: kept[n][0])
    return f"{name} {kept[name][1]}"


def operators() -> str:
    """Return the table of operators."""
    machine = "zen3-avx2"
    date, rows = rows_of(machine, "ops")
    lines = [
        f"Operators, one thread of a virtual AMD EPYC (Zen 3, AVX2), {date}:",
        "",
        "| | pyrcnn | torchvision or torch | the fastest other |",
        "|---|---|---|---|",
    ]
    for name, label in OPERATORS.items():
        found = peers(rows[name][-1])
        lines.append(f"| {label} | {rows[name][1]} | {best(found, TORCH)} | {best(found, without=TORCH)} |")
    return "\n".join(lines)


def models() -> str:
    """Return the table of whole models."""
    dates = sorted({rows_of(machine, "models")[0] for machine in MACHINES})
    lines = [
        f"Whole detectors with `deploy.optimize`, image to boxes, two threads, {' and '.join(dates)}:",
        "",
        "| model | AMD EPYC, dtype | pyrcnn | the fastest of OpenVINO, ONNX Runtime, torchvision | as built |",
        "|---|---|---|---|---|",
    ]
    for model in MODELS:
        for machine, title in MACHINES.items():
            row = rows_of(machine, "models")[1][f"model[{model}]"]
            found = peers(row[-1])
            other = best(found, without=("engine", "plain"))
            built = best({"": found["plain"]}).strip()
            lines.append(f"| `{model}` | {title} | {row[1]} | {other} | {built} |")
    return "\n".join(lines)


def readme() -> str:
    """Return the README with the tables as they are kept."""
    return replace_between(README.read_text(), "first-table", f"{operators()}\n\n{models()}")


if __name__ == "__main__":
    README.write_text(readme())
