"""Drawings of what the operators compute, from their results on small inputs.

``python scripts/site/drawings.py FOLDER`` writes the SVG files to a folder; the site's build makes them by itself. The
background is transparent, and the colours can be read on white and on black.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from pyrcnn import ops
from pyrcnn.checkpoints import bundled

GREY, BLUE, ORANGE, GREEN = "#808080", "#3b82f6", "#e8710a", "#16a34a"
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "pyrcnn", "font.size": 9, "font.family": "sans-serif",
    "text.color": GREY, "axes.edgecolor": GREY, "axes.labelcolor": GREY, "axes.titlecolor": GREY,
    "xtick.color": GREY, "ytick.color": GREY, "axes.titlesize": 9, "legend.frameon": False,
}  # fmt: skip
WIDTH, HEIGHT = 6.4, 2.5  # inches

DRAWINGS: dict[str, Callable[[], str]] = {}
_ALT: dict[str, str] = {}


def alt(name: str) -> str:
    """The text that stands for a drawing."""
    return _ALT[name]


@contextmanager
def _figure(columns: int, ratios: Sequence[float] | None = None) -> Iterator[tuple[Figure, Any]]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots(1, columns, squeeze=False, width_ratios=ratios)[0]
        for ax in axes:
            ax.patch.set_alpha(0)
        yield figure, axes


def drawing(columns: int = 1, ratios: Sequence[float] | None = None) -> Callable[..., Callable[[], str]]:
    """Register a function that draws on ``columns`` axes under its name; its docstring says what can be seen."""

    def decorate(function: Callable[..., None]) -> Callable[[], str]:
        def draw() -> str:
            torch.manual_seed(0)
            with _figure(columns, ratios) as (figure, axes):
                function(*axes)
                file = io.StringIO()
                figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
            return file.getvalue()

        DRAWINGS[function.__name__] = draw
        _ALT[function.__name__] = function.__doc__ or ""
        return draw

    return decorate


def _boxes(ax: Any, boxes: Tensor, colour: str, style: str = "-", labels: Sequence[str] = (), width: float = 1.8,
           below: bool = False) -> None:  # fmt: skip
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, ls=style, lw=width))
        if i < len(labels) and below:
            ax.text(x2, y2 + 0.7, labels[i], color=colour, va="top", ha="right", fontsize=8)
        elif i < len(labels):
            ax.text(x1 + 0.5, y1 - 0.5, labels[i], color=colour, va="bottom", fontsize=8)


def _plane(ax: Any, width: float, height: float, title: str = "") -> None:
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[], title=title)


def _map(ax: Any, values: Tensor, title: str = "", **options: Any) -> None:
    h, w = values.shape
    ax.imshow(values.numpy(), extent=(0, w, h, 0), cmap="viridis", interpolation="nearest", **options)
    _plane(ax, w, h, title)


def _bumps(height: int, width: int) -> Tensor:
    """A smooth feature map [1, 1, H, W]."""
    centers = torch.tensor([[[width * 0.3, height * 0.4], [width * 0.75, height * 0.6]]])
    return ops.draw_gaussians((1, 1, height, width), centers, torch.tensor([[2.5, 4.0]]), torch.zeros(1, 2).long())


@drawing(2)
def nms(before: Any, after: Any) -> None:
    """Boxes with scores; three remain, and those that overlap a better one are dropped."""
    boxes = torch.tensor([[4.0, 6, 24, 28], [10, 9, 31, 33], [7, 3, 20, 24],
                          [36, 4, 54, 20], [40, 8, 58, 24], [60, 12, 76, 33]])  # fmt: skip
    scores = torch.tensor([0.9, 0.8, 0.6, 0.75, 0.7, 0.5])
    kept = ops.nms(boxes, scores, 0.35).tolist()
    dropped = [i for i in range(len(boxes)) if i not in kept]
    _plane(before, 80, 40, "boxes and scores")
    _boxes(before, boxes, BLUE, labels=[f"{s:.2f}" for s in scores.tolist()], below=True)
    _plane(after, 80, 40, "nms(boxes, scores, 0.35)")
    _boxes(after, boxes[dropped], GREY, ":")
    _boxes(after, boxes[kept], GREEN, labels=[f"{s:.2f}" for s in scores[kept].tolist()], below=True)


def _pooled(left: Any, right: Any, result: Tensor, roi: Tensor, values: Tensor, title: str) -> None:
    _map(left, values[0, 0], "feature map and RoI")
    _boxes(left, roi[:, 1:], ORANGE)
    x1, y1, x2, y2 = roi[0, 1:].tolist()
    for i in range(1, result.shape[-1]):
        left.plot([x1 + (x2 - x1) * i / result.shape[-1]] * 2, [y1, y2], color=ORANGE, lw=0.7)
        left.plot([x1, x2], [y1 + (y2 - y1) * i / result.shape[-1]] * 2, color=ORANGE, lw=0.7)
    _map(right, result[0, 0], title, vmin=0, vmax=float(values.max()))


@drawing(2, (2, 1))
def roi_align(left: Any, right: Any) -> None:
    """A feature map with a RoI of five by five bins, and the averages of bilinear samples in the bins."""
    values, roi = _bumps(16, 28), torch.tensor([[0.0, 3.3, 2.4, 14.8, 11.9]])
    _pooled(left, right, ops.roi_align(values, roi, 5, 1.0, 2, True), roi, values, "roi_align(…, 5)")


@drawing(3)
def roi_align_levels(first: Any, second: Any, third: Any) -> None:
    """Three levels of a pyramid; each region is sampled from the level that suits its size."""
    rois = torch.tensor([[0.0, 30, 30, 70, 64], [0, 110, 40, 200, 130], [0, 20, 70, 230, 200]])
    sizes, scales = [(56, 64), (28, 32), (14, 16)], [1 / 4, 1 / 8, 1 / 16]
    pyramid = [torch.full((1, 1, *size), float(level)) for level, size in enumerate(sizes)]
    levels = ops.roi_align_levels(pyramid, rois, 1, scales, canonical_size=80, canonical_level=3).flatten()
    for level, (ax, (h, w), scale) in enumerate(zip((first, second, third), sizes, scales, strict=True)):
        _plane(ax, w, h, f"level {level}: {h} × {w}")
        _boxes(ax, rois[:, 1:] * scale, GREY, ":", width=1.0)
        _boxes(ax, rois[levels == level, 1:] * scale, GREEN)


@drawing(2, (2, 1))
def roi_pool(left: Any, right: Any) -> None:
    """A feature map with a RoI of five by five bins, and the maximum of each bin."""
    values, roi = _bumps(16, 28), torch.tensor([[0.0, 3.3, 2.4, 14.8, 11.9]])
    _pooled(left, right, ops.roi_pool(values, roi, 5), roi, values, "roi_pool(…, 5)")


@drawing(2, (2, 1))
def crop_and_resize(left: Any, right: Any) -> None:
    """A box of a feature map, and the crop resized to eight by eight samples."""
    values, box = _bumps(16, 28), torch.tensor([[0.1, 0.5, 0.9, 1.0]])
    _map(left, values[0, 0], "feature map and box")
    y1, x1, y2, x2 = (box[0] * torch.tensor([15, 27, 15, 27]) + 0.5).tolist()
    _boxes(left, torch.tensor([[x1, y1, x2, y2]]), ORANGE)
    _map(right, ops.crop_and_resize(values, box, torch.tensor([0]), 8)[0, 0], "crop_and_resize(…, 8)")


@drawing(2)
def generate_proposals(left: Any, right: Any) -> None:
    """Anchors with high logits on a grid, and the two proposals that remain after decoding and suppression."""
    logits = torch.full((1, 1, 4, 8), -2.0)
    logits[0, 0, 1, 1:4] = torch.tensor([1.0, 3.0, 0.5])
    logits[0, 0, 2, 5:7] = torch.tensor([2.0, 2.5])
    deltas = torch.zeros(1, 4, 4, 8)
    deltas[0, 0], deltas[0, 3] = 0.1, 0.2
    cell, size = torch.tensor([[-12.0, -9.0, 12.0, 9.0]]), torch.tensor([[40, 80]])
    boxes, scores, counts = ops.generate_proposals([logits], [deltas], [cell], [10.0], size, 5, 5, 0.3, offset=0.5)
    anchors = ops.grid_anchors([(4, 8)], [10.0], [cell], 0.5)[0]
    best = logits.flatten().topk(5).indices
    _plane(left, 80, 40, "the five best anchors")
    _boxes(left, anchors[best], BLUE, ":", width=1.2)
    _plane(right, 80, 40, "proposals and scores")
    n = int(counts[0])
    _boxes(right, boxes[0, :n], GREEN, labels=[f"{s:.2f}" for s in scores[0, :n].tolist()])


@drawing(2)
def roi_detections(left: Any, right: Any) -> None:
    """Proposals, and the detections that class logits and box regressions make of them."""
    proposals = torch.tensor([[[6.0, 8, 26, 34], [9, 10, 29, 36], [40, 6, 62, 26], [52, 20, 74, 38]]])
    logits = torch.tensor([[[0.0, 3, 0], [0, 2, 0], [0, 0, 3], [4, 0, 0]]])
    deltas = torch.tensor([[[0.5, 0.0, 0.5, 0.0], [0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]])
    boxes, scores, labels, counts = ops.roi_detections(
        logits, deltas, proposals, torch.tensor([4]), torch.tensor([[40, 80]]), score_threshold=0.3
    )
    n = int(counts[0])
    _plane(left, 80, 40, "proposals")
    _boxes(left, proposals[0], BLUE, ":")
    _plane(right, 80, 40, "detections: label and score")
    pairs = zip(labels[0, :n].tolist(), scores[0, :n].tolist(), strict=True)
    _boxes(right, boxes[0, :n], GREEN, labels=[f"{label}: {score:.2f}" for label, score in pairs])


@drawing()
def box_coding(ax: Any) -> None:
    """An anchor, and the box that its regression deltas make of it."""
    anchor = torch.tensor([[20.0, 10, 40, 34]])
    deltas = torch.tensor([[0.8, 0.1, 0.5, -0.25]])
    box = ops.decode_boxes(deltas, anchor)
    _plane(ax, 90, 44, "decode_boxes(deltas, anchor)")
    _boxes(ax, anchor, BLUE, ":", ["anchor"])
    _boxes(ax, box, GREEN, labels=["box"])
    start, end = ((b[0, :2] + b[0, 2:]).div(2).tolist() for b in (anchor, box))
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": ORANGE})
    ax.text(end[0] + 1, 39, "dx, dy = 0.8, 0.1\ndw, dh = 0.5, -0.25", color=ORANGE, fontsize=8)


@drawing(2)
def anchors(fine: Any, coarse: Any) -> None:
    """Cells of two feature maps, and the anchors of one cell of each."""
    cells = [torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in ((s * 1.4, s / 1.4), (s, s), (s / 1.4, s * 1.4))])
             for s in (14.0, 28.0)]  # fmt: skip
    levels = ops.grid_anchors([(4, 8), (2, 4)], [10.0, 20.0], cells, 0.5)
    for ax, level, stride, cell in ((fine, levels[0], 10, 10), (coarse, levels[1], 20, 2)):
        _plane(ax, 80, 40, f"stride {stride}: {len(level)} anchors")
        for x in range(0, 81, stride):
            ax.axvline(x, color=GREY, lw=0.4)
        for y in range(0, 41, stride):
            ax.axhline(y, color=GREY, lw=0.4)
        _boxes(ax, level[3 * cell : 3 * cell + 3], BLUE)


@drawing()
def match_boxes(ax: Any) -> None:
    """Ground truth, and anchors that are foreground, ignored and background."""
    truth = torch.tensor([[10.0, 8, 34, 36], [56, 10, 84, 34]])
    found = torch.tensor([[12.0, 9, 36, 37], [20, 6, 44, 32], [60, 8, 88, 33], [36, 4, 52, 20], [62, 20, 88, 40]])
    result = ops.match_boxes(found, truth, high=0.6, low=0.3)
    _plane(ax, 96, 44, "match_boxes(…, high=0.6, low=0.3): state and IoU")
    _boxes(ax, truth, ORANGE, width=3.0)
    for state, colour, word in ((1, GREEN, "foreground"), (-1, BLUE, "ignored"), (0, GREY, "background")):
        chosen = result.states == state
        _boxes(
            ax, found[chosen], colour, "--", [f"{word} {iou:.2f}" for iou in result.ious[chosen].tolist()], 1.3, True
        )


@drawing(2, (1, 2))
def box_iou(left: Any, right: Any) -> None:
    """IoU, generalized, distance and complete IoU of two boxes, by the distance of their centres."""
    shift = torch.linspace(0, 40, 81)
    fixed = torch.tensor([[0.0, 0, 20, 20]])
    moved = torch.stack((shift, torch.zeros(81), shift + 30, torch.full((81,), 12.0)), 1)
    _plane(left, 60, 30, "two boxes")
    _boxes(left, fixed + 4, BLUE)
    _boxes(left, moved[20:21] + 4, ORANGE)
    for function in (ops.box_iou, ops.generalized_box_iou, ops.distance_box_iou, ops.complete_box_iou):
        right.plot(shift, function(fixed, moved)[0], label=function.__name__, lw=1.4)
    right.set(xlabel="x of the second box, pixels")
    right.legend(fontsize=7)


@drawing(2)
def boxes(left: Any, right: Any) -> None:
    """A mask with the box around its pixels, and boxes clipped to an image."""
    mask = _bumps(16, 28)[0] > 0.35
    _map(left, mask[0].float(), "masks_to_boxes(masks)", vmax=2)
    _boxes(left, ops.masks_to_boxes(mask) + torch.tensor([0.0, 0.0, 1.0, 1.0]), ORANGE)
    given = torch.tensor([[-8.0, 10, 20, 30], [50, 20, 88, 48], [30, -6, 44, 16]])
    _plane(right, 100, 60, "clip_boxes_to_image(boxes, (40, 80))")
    right.set(xlim=(-12, 92), ylim=(52, -10))
    right.add_patch(Rectangle((0, 0), 80, 40, color=GREY, alpha=0.25))
    _boxes(right, given, BLUE, ":")
    _boxes(right, ops.clip_boxes_to_image(given, (40, 80)), GREEN)


@drawing()
def heatmap_peaks(ax: Any) -> None:
    """A heatmap, and its three highest peaks with their scores."""
    centers = torch.tensor([[[6.0, 5.0], [20.0, 9.0], [31.0, 4.0], [33.0, 6.0]]])
    weights = torch.tensor([[0.9, 0.75, 0.6, 0.4]])
    heat = ops.draw_gaussians((1, 1, 14, 40), centers, torch.full((1, 4), 2.2), torch.zeros(1, 4).long(), weights)
    peaks = ops.heatmap_peaks(heat, k=3, sigmoid=False)
    _map(ax, heat[0, 0], "heatmap_peaks(heatmap, k=3)")
    for score, y, x in zip(*(t[0].tolist() for t in (peaks.scores, peaks.ys, peaks.xs)), strict=True):
        ax.plot(x + 0.5, y + 0.5, "o", color=ORANGE, ms=7, mfc="none", mew=1.8)
        ax.text(x + 1.8, y + 0.6, f"{score:.2f}", color="white", va="center")


@drawing()
def decode_centers(ax: Any) -> None:
    """Cells of a feature map with a centre each, and the boxes that sizes and offsets there give."""
    ys, xs = torch.tensor([[3, 5]]), torch.tensor([[4, 13]])
    size, offset = torch.full((1, 2, 9, 20), 5.0), torch.full((1, 2, 9, 20), 0.5)
    size[:, 1, :, 10:] = 8.0
    found = ops.decode_centers(ys, xs, size, offset, stride=4)[0]
    _plane(ax, 80, 36, "decode_centers(…, stride=4)")
    for x, y in zip(xs[0].tolist(), ys[0].tolist(), strict=True):
        ax.add_patch(Rectangle((4 * x, 4 * y), 4, 4, color=ORANGE, alpha=0.6))
    _boxes(ax, found, GREEN)


@drawing()
def match_keypoints(ax: Any) -> None:
    """A keypoint's heatmap, the regressed keypoint of a detection, and the peak that replaces it."""
    cell = torch.tensor([[5]]), torch.tensor([[12]])
    peak = torch.tensor([[[17.0, 3.0]]])
    heat = ops.draw_gaussians((1, 1, 12, 30), peak, torch.tensor([[1.6]]), torch.zeros(1, 1).long())
    moves = torch.zeros(1, 2, 12, 30)
    moves[0, :, 5, 12] = torch.tensor([-1.0, 3.0])
    box = torch.tensor([[[20.0, 4, 80, 44]]])
    options: dict[str, Any] = {"stride": 4, "sigmoid": False}
    found, _ = ops.match_keypoints(*cell, heat, moves, torch.zeros(1, 2, 12, 30), box, **options)
    regressed, _ = ops.match_keypoints(*cell, heat * 0, moves, torch.zeros(1, 2, 12, 30), box, **options)
    _map(ax, heat[0, 0], "match_keypoints(…)")
    for point, colour, text in ((regressed, BLUE, "regressed"), (found, ORANGE, "matched")):
        x, y = (point.reshape(-1, 2)[0] / 4 + 0.5).tolist()
        ax.plot(x, y, "o", color=colour, ms=6)
        ax.text(x + 0.8, y + (1.6 if text == "regressed" else 0), text, color="white", va="center")
    _boxes(ax, box[0] / 4, GREEN)


@drawing(2)
def draw_gaussians(first: Any, second: Any) -> None:
    """Target maps with a Gaussian for every object, one map per class."""
    centers = torch.tensor([[[6.0, 5.0], [19.0, 8.0], [15.0, 6.0]]])
    maps = ops.draw_gaussians((1, 2, 12, 26), centers, torch.tensor([[1.2, 2.4, 1.8]]), torch.tensor([[0, 0, 1]]))
    _map(first, maps[0, 0], "class 0")
    _map(second, maps[0, 1], "class 1")


@drawing(2, (4, 3))
def preprocess(left: Any, right: Any) -> None:
    """An image, and the square network input that it becomes, with padding at the bottom."""
    with Image.open(bundled.images()[0]) as image:
        small = image.convert("RGB").resize((96, 72))
    values = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).reshape(72, 96, 3).permute(2, 0, 1)
    result = ops.preprocess([values], (64, 64), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))[0]
    for ax, pixels, title in ((left, values / 255, "image"), (right, result, "preprocess(…, size=(64, 64))")):
        _, h, w = pixels.shape
        ax.imshow(pixels.permute(1, 2, 0).clamp(0, 1).numpy(), extent=(0, w, h, 0))
        _plane(ax, w, h, title)


@drawing(2)
def losses(left: Any, right: Any) -> None:
    """The focal loss of a positive example for three values of gamma, and the IoU losses by distance."""
    p = torch.linspace(0.01, 0.99, 99)
    for gamma in (0.0, 1.0, 2.0):
        loss = ops.sigmoid_focal_loss(torch.logit(p), torch.ones(99), alpha=-1, gamma=gamma)
        left.plot(p, loss, label=f"gamma {gamma:.0f}", lw=1.4)
    left.set(xlabel="probability of the true class", title="sigmoid_focal_loss")
    shift = torch.linspace(0, 40, 81)
    fixed = torch.tensor([[0.0, 0, 20, 20]]).expand(81, 4)
    moved = torch.stack((shift, torch.zeros(81), shift + 30, torch.full((81,), 12.0)), 1)
    for function in (ops.generalized_box_iou_loss, ops.distance_box_iou_loss, ops.complete_box_iou_loss):
        right.plot(shift, function(fixed, moved), label=function.__name__, lw=1.4)
    right.set(xlabel="x of the second box, pixels")
    for ax in (left, right):
        ax.legend(fontsize=7)


@drawing(4)
def layers(*axes: Any) -> None:
    """The maps of a feature pyramid: three levels with equal channels, and a fourth by subsampling."""
    pyramid = ops.FeaturePyramidNetwork([1, 1, 1], 1, ops.LastLevelMaxPool())
    for parameter in pyramid.parameters():
        torch.nn.init.constant_(parameter, 1 / 9 if parameter.ndim == 4 and parameter.shape[-1] == 3 else 0.5)
    inputs = {str(level): _bumps(32 >> level, 32 >> level) for level in range(3)}
    with torch.no_grad():
        found = pyramid(inputs)
    for ax, (name, values) in zip(axes, found.items(), strict=True):
        _map(ax, values[0, 0], f"{name}: {values.shape[2]} × {values.shape[3]}")


if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (Path(sys.argv[1]) / f"{name}.svg").write_text(draw())
