"""Peak extra memory of every operator: ``python -m benchmarks.memory`` (``nms roi_align`` for some).

Each operator runs once in a process of its own, after one small call that loads what it needs. The kernel's own record
of the resident set's peak (``VmHWM``, reset through ``/proc/self/clear_refs``) is read around the call, with malloc set
to hand every block above 64 KiB back to the system at once, so that no earlier block hides a new one. What the table
calls extra is that peak less the resident set before the call: the outputs and all scratch.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import data
from benchmarks.rows.heatmaps import heatmap
from pyrcnn import ops

CPU = torch.device("cpu")
MEBIBYTE = 2**20
Call = tuple[Callable[..., Any], tuple[Any, ...]]
PLAIN_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "OMP_NUM_THREADS": "1"}


def nms(scale: int) -> Call:
    return ops.nms, (*data.rpn_boxes(100 * scale, CPU), 0.7)


def batched_nms(scale: int) -> Call:
    return ops.batched_nms, (*data.rpn_boxes(100 * scale, CPU), torch.randint(80, (100 * scale,)), 0.5)


def generate_proposals(scale: int) -> Call:
    objectness, deltas, cells = data.rpn_outputs(CPU, max(1, scale // 500))
    sizes = torch.tensor([[800.0, 1333.0]] * len(objectness[0]))
    return ops.generate_proposals, (objectness, deltas, cells, [4, 8, 16, 32, 64], sizes, 2000, 2000, 0.7)


def roi_detections(scale: int) -> Call:
    logits, deltas, boxes = data.class_scores(10 * scale, 90, CPU)
    counts, sizes = torch.tensor([10 * scale]), torch.tensor([[800.0, 1333.0]])
    return ops.roi_detections, (logits[None], deltas[None], boxes[None], counts, sizes, 0.001)


def roi_align(scale: int) -> Call:
    (maps,) = data.features(64, data.LEVELS[:1], CPU, torch.float32, False)
    return ops.roi_align, (maps, data.rois(scale, CPU), 7, 0.25, 2)


def decode_boxes(scale: int) -> Call:
    return ops.decode_boxes, (torch.randn(1000 * scale, 4) * 0.2, data.rpn_boxes(1000 * scale, CPU)[0])


def clip_boxes_to_image(scale: int) -> Call:
    return ops.clip_boxes_to_image, (data.rpn_boxes(1000 * scale, CPU)[0], (400, 600))


def decode_anchors(scale: int) -> Call:
    _, deltas, cells = data.rpn_outputs(CPU, max(1, scale // 500))
    return ops.decode_anchors, (deltas, cells, [4, 8, 16, 32, 64], torch.tensor([[800.0, 1333.0]] * len(deltas[0])))


def match_boxes(scale: int) -> Call:
    return ops.match_boxes, (data.rpn_boxes(1000 * scale, CPU)[0], data.rpn_boxes(30, CPU)[0][None], 0.7, 0.3, True)


def heatmap_peaks(scale: int) -> Call:
    return ops.heatmap_peaks, (heatmap(max(1, scale // 250), 80, 128, CPU), 100)


def crop_and_resize(scale: int) -> Call:
    boxes = torch.rand(scale, 4).sort(1).values  # y1 < x1 < y2 < x2
    return ops.crop_and_resize, (torch.randn(1, 64, 100, 100), boxes, torch.zeros(scale, dtype=torch.int64), (14, 14))


def draw_gaussians(scale: int) -> Call:
    images = max(1, scale // 250)
    centers, classes = torch.rand(images, 20, 2) * 128, torch.randint(80, (images, 20))
    return ops.draw_gaussians, ((images, 80, 128, 128), centers, torch.rand(images, 20) * 3 + 0.5, classes)


ROWS = (nms, batched_nms, generate_proposals, roi_detections, roi_align, decode_boxes, clip_boxes_to_image)
ROWS += (decode_anchors, match_boxes, heatmap_peaks, crop_and_resize, draw_gaussians)


def size_of(value: Any) -> int:
    """Bytes of all tensors in nested lists and tuples."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(size_of, value)) if isinstance(value, (list, tuple)) else 0


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def measure(row: Callable[[int], Call]) -> tuple[int, int, int]:
    """Bytes of the inputs, of the outputs, and the peak above what was there before the call."""
    small, arguments = row(10)
    small(*arguments)
    call, arguments = row(1000)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    result = call(*arguments)
    return size_of(arguments), size_of(result), resident("VmHWM") - before


def table(names: list[str]) -> Iterator[str]:
    """One line per operator."""
    yield "| operator | inputs | outputs | peak extra | of inputs + outputs |"
    yield "|---|---|---|---|---|"
    for row in ROWS:
        if names and row.__name__ not in names:
            continue
        command = [sys.executable, "-m", "benchmarks.memory", "--measure", row.__name__]
        output = subprocess.check_output(command, text=True, env=os.environ | PLAIN_MALLOC)
        inputs, outputs, extra = map(int, output.split())
        sizes = " | ".join(f"{n / MEBIBYTE:.1f} MiB" for n in (inputs, outputs, extra))
        yield f"| {row.__name__} | {sizes} | {extra / (inputs + outputs):.2f} |"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(*measure({row.__name__: row for row in ROWS}[sys.argv[2]]))
    else:
        for line in table(sys.argv[1:]):
            print(line, flush=True)
