"""Operators and whole detectors as one CUDA graph each, beside the goals for an H200.

``pytest benchmarks/bench_goals.py --bench-device cuda``; inputs are on the device, and padded results stay there. On a
CPU the same calls run without graphs, and the goals do not apply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.detectors.calibration import calibrate_, example_image
from benchmarks.measuring import data
from benchmarks.peers import COMPILED, torchvision
from benchmarks.rows.heatmaps import heatmap, peaks_in_torch
from benchmarks.rows.suppression import _torchvision_proposals
from pyrcnn import deploy, models, ops

# preset, images, (height, width) of the network's input, milliseconds
DETECTORS = (
    ("faster_rcnn_resnet50_fpn", 1, (800, 1344), 2.0),
    ("faster_rcnn_resnet50_fpn", 32, (800, 1344), 48.0),
    ("faster_rcnn_vgg16", 1, (600, 1000), 1.5),
    ("centernet_hg104_512", 1, (512, 512), 2.2),
    ("centernet_hg104_1024", 1, (1024, 1024), 5.5),
    ("centernet_resnet50_v1_fpn_512", 1, (512, 512), 0.55),
    ("centernet_resnet101_v1_fpn_512", 1, (512, 512), 0.85),
    ("centernet_mobilenet_v2_fpn_512", 1, (512, 512), 0.35),
)
COMPILED_TOO = ("faster_rcnn_resnet50_fpn", "centernet_resnet50_v1_fpn_512")  # a minute or two each


def capture(function: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """``function`` as a CUDA graph; each replay returns the same tensors."""
    if device.type != "cuda":
        return function
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()

    def replay() -> Any:
        graph.replay()
        return results

    return replay


def check_same(ours: Any, theirs: Any, name: str) -> None:
    """A replay returns what the call itself returns."""
    if name == "called":
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.fixture
def goal(compare, device) -> Callable[..., None]:
    """``goal(microseconds, function, peers)``: a row of ``function`` replayed and, beside it, called."""

    def run(microseconds: float, function: Callable[[], Any], **peers: Any) -> None:
        compare(capture(function, device), {"called": function, **peers}, agree=check_same, goal=microseconds * 1e-6)

    return run


def bench_goal_nms_padded_1000(goal, device) -> None:
    boxes, scores = data.rpn_boxes(1000, device)
    tv = torchvision()
    goal(
        10,
        lambda: ops.nms_padded(boxes[None], scores[None], 0.7, 1000),
        torchvision=tv and (lambda: tv.ops.nms(boxes, scores, 0.7)),
    )


def bench_goal_nms_padded_5x1000(goal, device) -> None:
    """The five levels of a region proposal network at once."""
    boxes, scores = data.rpn_boxes(5000, device)
    levels = torch.arange(5, device=device).repeat_interleave(1000)
    tv = torchvision()
    goal(
        12,
        lambda: ops.nms_padded(boxes[None], scores[None], 0.7, 1000, levels[None]),
        torchvision=tv and (lambda: tv.ops.batched_nms(boxes, scores, levels, 0.7)),
    )


def bench_goal_generate_proposals(goal, device) -> None:
    objectness, deltas, cells = data.rpn_outputs(device)
    strides = [s for s, _, _ in data.RPN_LEVELS]
    sizes = torch.tensor([[800.0, 1333.0]], device=device)
    goal(
        30,
        lambda: ops.generate_proposals(objectness, deltas, cells, strides, sizes, 1000, 1000, 0.7),
        torchvision=_torchvision_proposals(objectness, deltas, cells, 1, 1000, device),
    )


def bench_goal_roi_align_levels_1000(goal, device) -> None:
    maps = data.features(256, data.LEVELS, device, torch.bfloat16, True)
    rois, scales = data.rois(1000, device), [1 / s for s, _, _ in data.LEVELS]
    tv = torchvision()
    peer = None
    if tv is not None:
        pooler = tv.ops.MultiScaleRoIAlign([str(i) for i in range(4)], 7, 2)
        named, boxes = {str(i): m.float() for i, m in enumerate(maps)}, [rois[:, 1:].contiguous()]
        peer = lambda: pooler(named, boxes, [(800, 1344)])  # noqa: E731
    goal(40, lambda: ops.roi_align_levels(maps, rois, 7, scales), torchvision=peer)


def bench_goal_heatmap_peaks_80x128x128(goal, device) -> None:
    maps = heatmap(1, 80, 128, device)
    goal(8, lambda: ops.heatmap_peaks(maps, 100), torch=lambda: peaks_in_torch(maps, 100))


def bench_goal_roi_detections_1000(goal, device) -> None:
    logits, deltas, boxes = data.class_scores(1000, 90, device)
    counts, sizes = torch.tensor([1000], device=device), torch.tensor([[800.0, 1333.0]], device=device)
    goal(20, lambda: ops.roi_detections(logits[None], deltas[None], boxes[None], counts, sizes, score_threshold=0.05))


@pytest.mark.parametrize(
    ("name", "images", "size", "milliseconds"), DETECTORS, ids=[f"{d[0]}-{d[1]}" for d in DETECTORS]
)
def bench_goal_detector(
    compare, benchmark, device, name: str, images: int, size: tuple[int, int], milliseconds: float
) -> None:
    """From normalized images to padded detections in given tensors; the time is that of the whole batch."""
    small: dict[str, int] = {}
    if benchmark.disabled or device.type != "cuda":  # no timing
        images, size = min(images, 2), (128, 128)
        small = {"input_size": 128} if name.startswith("centernet") else {"min_size": 128, "max_size": 128}
    model: Any = models.build(name, **small).eval()
    calibrate_(model, example_image(*size)).to(device)
    fast = deploy.optimize(model, "auto")
    low = fast if benchmark.disabled else deploy.optimize(model, "auto", graphs=0)
    pixels = torch.randn(images, 3, *size, generator=torch.Generator().manual_seed(1)).to(device)
    ready = pixels.to(fast.dtype).contiguous(memory_format=torch.channels_last)
    sizes = torch.tensor([size] * images, device=device)
    out = fast.predict_padded(ready, sizes)
    peers = {"without graphs": lambda: low.predict_padded(ready, sizes), "plain": plain_contender(model, pixels, sizes)}
    if device.type == "cuda" and images == 1 and name in COMPILED_TOO:
        peers[COMPILED] = plain_contender(model, pixels, sizes, compiled=True)
    if benchmark.disabled:
        peers.clear()
    compare(lambda: fast.predict_padded(ready, sizes, out=out), peers, goal=milliseconds * 1e-3, dtype=str(fast.dtype))


def plain_contender(model: Any, pixels: torch.Tensor, sizes: torch.Tensor, compiled: bool = False) -> Callable[[], Any]:
    """The model as built, under autocast on a GPU."""
    core = torch.compile(model.predict_padded, dynamic=False) if compiled else model.predict_padded

    def call() -> Any:
        with torch.no_grad(), torch.autocast(pixels.device.type, torch.bfloat16, pixels.is_cuda):
            return core(pixels, sizes)

    return call
