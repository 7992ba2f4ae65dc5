"""Peak extra memory of every operator: ``python -m benchmarks.memory`` (``nms roi_align`` for some).

The rows are those of ``bench_ops.py`` with large inputs, and training steps. Each runs once, on one thread, in its own
process, after one small call that loads what it needs. ``memory.c`` replaces glibc's allocator in that process and
counts bytes. "Peak extra" is the most that was allocated during the call, outputs and temporary memory included, less
what was allocated before. The resident set's peak says less: new blocks reuse pages that were freed earlier.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import data
from benchmarks.rows.boxes import ANCHORS
from benchmarks.rows.heatmaps import heatmap, keypoints
from pyrcnn import ops

CPU = torch.device("cpu")
Call = tuple[Callable[..., Any], tuple[Any, ...]]
Row = Callable[[float], Call]  # its argument: 1, or less for the same call on less
SIZES = torch.tensor([[800.0, 1333.0]])
STRIDES = [s for s, _, _ in data.RPN_LEVELS]
SMALL = 0.01  # of the call before the one that is measured


def part(count: int, scale: float) -> int:
    return max(1, round(count * scale))


def boxes_of(kind: str, count: int) -> tuple[Tensor, Tensor]:
    return (data.rpn_boxes if kind == "rpn" else data.random_boxes)(count, CPU)


def nms(kind: str, count: int, threshold: float, scale: float) -> Call:
    return ops.nms, (*boxes_of(kind, part(count, scale)), threshold)


def batched_nms(classes: int, count: int, threshold: float, scale: float) -> Call:
    boxes, scores = boxes_of("rpn", part(count, scale))
    return ops.batched_nms, (boxes, scores, torch.randint(classes, scores.shape), threshold)


def nms_padded(images: int, count: int, scale: float) -> Call:
    boxes, scores = boxes_of("rpn", part(count, scale))
    return ops.nms_padded, (boxes.expand(images, -1, -1).clone(), scores.expand(images, -1).clone(), 0.7, 300)


def generate_proposals(images: int, top: int, scale: float) -> Call:
    objectness, deltas, cells = data.rpn_outputs(CPU, images)
    if scale < 1:
        objectness, deltas = objectness[3:], deltas[3:]
    fitting = (cells[-len(deltas) :], STRIDES[-len(deltas) :])
    return ops.generate_proposals, (objectness, deltas, *fitting, SIZES.repeat(images, 1), top, top, 0.7)


def roi_detections(proposals: int, classes: int, threshold: float, scale: float) -> Call:
    logits, deltas, boxes = data.class_scores(part(proposals, scale), classes, CPU)
    return ops.roi_detections, (logits[None], deltas[None], boxes[None], torch.tensor([len(boxes)]), SIZES, threshold)


def maps_of(channels: int, levels: Any, dtype: torch.dtype, layout: str, scale: float) -> list[Tensor]:
    levels = [(stride, part(h, scale), part(w, scale)) for stride, h, w in levels]
    return data.features(channels, levels, CPU, dtype, layout == "nhwc")


def roi_align(layout: str, dtype: torch.dtype, count: int, sampling: int, scale: float) -> Call:
    (x,) = maps_of(256, data.LEVELS[:1], dtype, layout, scale)
    return ops.roi_align, (x, data.rois(part(count, scale), CPU), 7, 0.25, sampling)


def roi_align_levels(layout: str, dtype: torch.dtype, count: int, scale: float) -> Call:
    maps, scales = maps_of(256, data.LEVELS, dtype, layout, scale), [1 / stride for stride, _, _ in data.LEVELS]
    return ops.roi_align_levels, (maps, data.rois(part(count, scale), CPU), 7, scales)


def roi_pool(layout: str, dtype: torch.dtype, count: int, scale: float) -> Call:
    (x,) = maps_of(512, ((16, 38, 63),), dtype, layout, scale)
    return ops.roi_pool, (x, data.rois(part(count, scale), CPU, size=(600, 1000)), 7, 1 / 16)


def crop_and_resize(layout: str, scale: float) -> Call:
    (x,) = maps_of(256, ((16, 38, 63),), torch.float32, layout, scale)
    boxes = torch.rand(part(300, scale), 4).sort(1).values  # y1 < x1 < y2 < x2
    return ops.crop_and_resize, (x, boxes, torch.zeros(len(boxes), dtype=torch.int64), (14, 14))


def decode_boxes(size: tuple[int, int] | None, scale: float) -> Call:
    anchors, _ = boxes_of("rpn", part(ANCHORS, scale))
    return lambda *tensors: ops.decode_boxes(*tensors, size=size), (torch.randn(anchors.shape) * 0.2, anchors)


def encode_boxes(scale: float) -> Call:
    return ops.encode_boxes, (boxes_of("rpn", part(ANCHORS, scale))[0], boxes_of("rpn", part(ANCHORS, scale))[0])


def decode_and_clip(scale: float) -> Call:
    decode, arguments = decode_boxes(None, scale)
    return lambda *tensors: ops.clip_boxes_to_image(decode(*tensors), (800, 1333)), arguments


def decode_anchors(scale: float) -> Call:
    _, deltas, cells = data.rpn_outputs(CPU)
    if scale < 1:
        deltas = deltas[3:]
    return ops.decode_anchors, (deltas, cells[-len(deltas) :], STRIDES[-len(deltas) :], SIZES)


def match_boxes(scale: float) -> Call:
    anchors, truth = boxes_of("rpn", part(ANCHORS, scale))[0], boxes_of("rpn", 30)[0]
    return ops.match_boxes, (anchors, truth[None], 0.7, 0.3, True)


def box_iou(count: int, scale: float) -> Call:
    return ops.box_iou, (boxes_of("rpn", part(count, scale))[0], boxes_of("random", part(count, scale))[0])


def side_of(side: int, scale: float) -> int:
    return side if scale == 1 else 32


def heatmap_peaks(layout: str, images: int, side: int, scale: float) -> Call:
    x = heatmap(images if scale == 1 else 1, 80, side_of(side, scale), CPU)
    return ops.heatmap_peaks, (x.contiguous(memory_format=torch.channels_last) if layout == "nhwc" else x, 100)


def match_keypoints(layout: str, side: int, scale: float) -> Call:
    ys, xs, *maps, boxes = keypoints(side_of(side, scale), CPU)
    if layout == "nhwc":
        maps = [m.contiguous(memory_format=torch.channels_last) for m in maps]
    return ops.match_keypoints, (ys[None], xs[None], *maps, boxes[None], 4)


def draw_gaussians(images: int, scale: float) -> Call:
    shape = (part(images, scale), 80, 128, 128)
    objects = (shape[0], 20)
    centers, classes = torch.rand(*objects, 2) * 128, torch.randint(80, objects)
    return ops.draw_gaussians, (shape, centers, torch.rand(objects) * 3 + 0.5, classes)


def preprocess(height: int, width: int, scale: float) -> Call:
    image = torch.randint(256, (3, part(height, scale), part(width, scale)), dtype=torch.uint8)
    size = (512, 512) if scale == 1 else (32, 32)
    return ops.preprocess, ([image], size, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def decode_centers(scale: float) -> Call:
    ys, xs = (torch.randint(side_of(128, scale), (1, 100)) for _ in range(2))
    return ops.decode_centers, (ys, xs, *(torch.rand(1, 2, *[side_of(128, scale)] * 2) for _ in range(2)), 4)


def training(row: Row, *wanted: int) -> Row:
    """``row`` with gradients of the ``wanted`` arguments; outputs are the results and the gradients."""

    def both(scale: float) -> Call:
        function, arguments = row(scale)
        inputs = [t for i in wanted for t in (arguments[i] if isinstance(arguments[i], list) else [arguments[i]])]
        for t in inputs:
            t.requires_grad_()

        def step(*arguments: Any) -> Any:
            results = function(*arguments)
            out = results if isinstance(results, Tensor) else results[0]
            return results, *torch.autograd.grad(out.sum(), inputs)

        return step, arguments

    return both


FLOAT, BFLOAT = torch.float32, torch.bfloat16
ROWS: dict[str, Row] = {
    "nms[rpn-1000-0.7]": partial(nms, "rpn", 1000, 0.7),
    "nms[rpn-5000-0.7]": partial(nms, "rpn", 5000, 0.7),
    "nms[rpn-20000-0.7]": partial(nms, "rpn", 20000, 0.7),
    "nms[random-1000-0.5]": partial(nms, "random", 1000, 0.5),
    "nms[random-20000-0.5]": partial(nms, "random", 20000, 0.5),
    "batched_nms[80-1000-0.5]": partial(batched_nms, 80, 1000, 0.5),
    "batched_nms[80-5000-0.5]": partial(batched_nms, 80, 5000, 0.5),
    "batched_nms[80-20000-0.5]": partial(batched_nms, 80, 20000, 0.5),
    "batched_nms[5-5000-0.7]": partial(batched_nms, 5, 5000, 0.7),
    "nms_padded[1-1000]": partial(nms_padded, 1, 1000),
    "nms_padded[8-1000]": partial(nms_padded, 8, 1000),
    "generate_proposals[1-1000]": partial(generate_proposals, 1, 1000),
    "generate_proposals[2-2000]": partial(generate_proposals, 2, 2000),
    "roi_detections[1000-90-0.05]": partial(roi_detections, 1000, 90, 0.05),
    "roi_detections[1000-90-0.001]": partial(roi_detections, 1000, 90, 0.001),
    "roi_detections[300-20-0.05]": partial(roi_detections, 300, 20, 0.05),
    "roi_align[float32-1000-2-nchw]": partial(roi_align, "nchw", FLOAT, 1000, 2),
    "roi_align[float32-1000-2-nhwc]": partial(roi_align, "nhwc", FLOAT, 1000, 2),
    "roi_align[bfloat16-1000-2-nchw]": partial(roi_align, "nchw", BFLOAT, 1000, 2),
    "roi_align[bfloat16-1000-2-nhwc]": partial(roi_align, "nhwc", BFLOAT, 1000, 2),
    "roi_align[float32-512--1-nchw]": partial(roi_align, "nchw", FLOAT, 512, -1),
    "roi_align[float32-512--1-nhwc]": partial(roi_align, "nhwc", FLOAT, 512, -1),
    "roi_align_levels[float32-1000-nchw]": partial(roi_align_levels, "nchw", FLOAT, 1000),
    "roi_align_levels[float32-1000-nhwc]": partial(roi_align_levels, "nhwc", FLOAT, 1000),
    "roi_align_levels[bfloat16-1000-nchw]": partial(roi_align_levels, "nchw", BFLOAT, 1000),
    "roi_align_levels[bfloat16-1000-nhwc]": partial(roi_align_levels, "nhwc", BFLOAT, 1000),
    "roi_pool[300-nchw]": partial(roi_pool, "nchw", FLOAT, 300),
    "roi_pool[300-nhwc]": partial(roi_pool, "nhwc", FLOAT, 300),
    "roi_pool[2000-nchw]": partial(roi_pool, "nchw", FLOAT, 2000),
    "roi_pool[2000-nhwc]": partial(roi_pool, "nhwc", FLOAT, 2000),
    "crop_and_resize[nchw]": partial(crop_and_resize, "nchw"),
    "crop_and_resize[nhwc]": partial(crop_and_resize, "nhwc"),
    "decode_boxes[268569]": partial(decode_boxes, None),
    "decode_and_clip[one]": partial(decode_boxes, (800, 1333)),
    "decode_and_clip[two]": decode_and_clip,
    "decode_anchors": decode_anchors,
    "match_boxes": match_boxes,
    "box_iou[1000-1000]": partial(box_iou, 1000),
    "heatmap_peaks[1-80-128-nchw]": partial(heatmap_peaks, "nchw", 1, 128),
    "heatmap_peaks[1-80-128-nhwc]": partial(heatmap_peaks, "nhwc", 1, 128),
    "heatmap_peaks[8-80-128-nchw]": partial(heatmap_peaks, "nchw", 8, 128),
    "match_keypoints[128]": partial(match_keypoints, "nchw", 128),
    "match_keypoints[256]": partial(match_keypoints, "nchw", 256),
    "match_keypoints[256], NHWC": partial(match_keypoints, "nhwc", 256),
    "draw_gaussians[4]": partial(draw_gaussians, 4),
    "preprocess[480-640]": partial(preprocess, 480, 640),
    "preprocess[1080-1920]": partial(preprocess, 1080, 1920),
    "roi_align_training[nchw]": training(partial(roi_align, "nchw", FLOAT, 512, 2), 0),
    "roi_align_training[nhwc]": training(partial(roi_align, "nhwc", FLOAT, 512, 2), 0),
    "roi_align_training[rois]": training(partial(roi_align, "nhwc", FLOAT, 512, 2), 0, 1),
    "roi_align_training[bfloat16]": training(partial(roi_align, "nhwc", BFLOAT, 512, 2), 0),
    "roi_align_levels_training[nchw]": training(partial(roi_align_levels, "nchw", FLOAT, 512), 0),
    "roi_align_levels_training[nhwc]": training(partial(roi_align_levels, "nhwc", FLOAT, 512), 0),
    "roi_pool_training[300-nchw]": training(partial(roi_pool, "nchw", FLOAT, 300), 0),
    "roi_pool_training[300-nhwc]": training(partial(roi_pool, "nhwc", FLOAT, 300), 0),
    "roi_pool_training[2000-nchw]": training(partial(roi_pool, "nchw", FLOAT, 2000), 0),
    "roi_pool_training[2000-nhwc]": training(partial(roi_pool, "nhwc", FLOAT, 2000), 0),
    "roi_pool_training[bfloat16-2000-nchw]": training(partial(roi_pool, "nchw", BFLOAT, 2000), 0),
    "roi_pool_training[bfloat16-2000-nhwc]": training(partial(roi_pool, "nhwc", BFLOAT, 2000), 0),
    "crop_and_resize_training[nchw]": training(partial(crop_and_resize, "nchw"), 0),
    "crop_and_resize_training[nhwc]": training(partial(crop_and_resize, "nhwc"), 0),
    "decode_boxes_training": training(partial(decode_boxes, None), 0, 1),
    "decode_and_clip_training": training(partial(decode_boxes, (800, 1333)), 0, 1),
    "encode_boxes_training": training(encode_boxes, 0, 1),
    "decode_anchors_training": training(decode_anchors, 0),
    "box_iou_training[1000-1000]": training(partial(box_iou, 1000), 0, 1),
    "heatmap_peaks_training[nchw]": training(partial(heatmap_peaks, "nchw", 1, 128), 0),
    "heatmap_peaks_training[nhwc]": training(partial(heatmap_peaks, "nhwc", 1, 128), 0),
    "decode_centers_training": training(decode_centers, 2, 3),
}


def size_of(value: Any) -> int:
    """Bytes of all tensors in nested lists and tuples."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(size_of, value)) if isinstance(value, (list, tuple)) else 0


def measure(row: Row) -> tuple[int, int, int]:
    """Bytes of the inputs, of the outputs, and the largest extra allocation at any time of the call."""
    small, arguments = row(SMALL)
    small(*arguments)
    call, arguments = row(1)
    counter = ctypes.CDLL(None)
    counter.begin_counting.restype = counter.most_allocated.restype = ctypes.c_long
    before = counter.begin_counting()
    result = call(*arguments)
    return size_of(arguments), size_of(result), counter.most_allocated() - before


def format_size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


def table(names: list[str]) -> Iterator[str]:
    """One line per row."""
    yield "| row | inputs | outputs | peak extra | of inputs + outputs |"
    yield "|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        counter = Path(folder) / "counter.so"
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", counter, Path(__file__).with_suffix(".c"), "-ldl"], check=True
        )
        for name in ROWS:
            if names and name.partition("[")[0] not in names:
                continue
            command = [sys.executable, "-m", "benchmarks.memory", "--measure", name]
            settings = os.environ | {"LD_PRELOAD": str(counter), "OMP_NUM_THREADS": "1"}
            inputs, outputs, extra = map(int, subprocess.check_output(command, text=True, env=settings).split())
            sizes = " | ".join(map(format_size, (inputs, outputs, extra)))
            yield f"| {name} | {sizes} | {extra / (inputs + outputs):.2f} |"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(*measure(ROWS[sys.argv[2]]))
    else:
        for line in table(sys.argv[1:]):
            print(line, flush=True)
