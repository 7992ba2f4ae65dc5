"""Random weights, calibrated on one image so that a detector finds a known number of clear objects in it.

Untrained weights give scores that hardly differ. Then thousands of scores tie, rounding decides which boxes are found,
and results in float32 and bfloat16 cannot be compared. :func:`calibrate_` therefore computes the last layers:

- scores: a few locations (``OBJECTS``) get a high logit, their neighbors a lower one that non-maximum suppression must
  remove, and all others a logit far below every threshold. The weights are a ridge regression on the layer's inputs,
  whose regularization keeps errors of low precision small.
- boxes, offsets and keypoints: each output is scaled to the mean and deviation that a trained detector has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OBJECTS = 12
PER_CHANNEL = 5  # at most; each further one in the same channel brings the others closer to the background
BACKGROUND = -7.0  # mean logit of everything that is no object
HIGHEST, LOWEST = 3.0, 1.5  # logits of the objects
NEIGHBOR, STEP = 0.8, 0.12  # the first neighbor's logit is so much below the object's, each further one below that
RIDGE = 3e-3  # in units of the inputs' variance; bfloat16 rounds inputs by about 1 % of their deviation
BRANCH = 0.25  # scale of residual branches; as they come, 50 random layers amplify a rounding error 100 times
# mean and deviation of the other layers' outputs
CENTERNET = {"size": (16.0, 3.0), "offset": (0.5, 0.15), "keypoint_heatmap": (-6.0, 1.4),
             "keypoint_regression": (0.0, 4.0), "keypoint_offset": (0.5, 0.15)}  # fmt: skip
RPN_BOXES = (0.0, 0.05)
ROI_BOXES = (0.0, 0.3)


def example_image(height: int, width: int) -> Tensor:
    """A uint8 image [3, height, width] of random patterns at all scales, as photographs have."""
    g = torch.Generator().manual_seed(0)
    image = torch.zeros(1, 3, height, width)
    for cell in (1, 4, 16, 64):
        noise = torch.randn(1, 3, height // cell + 2, width // cell + 2, generator=g)
        image += F.interpolate(noise, scale_factor=cell, mode="bilinear")[..., :height, :width]
    return (image[0] * 35 + 128).clamp(0, 255).to(torch.uint8)


def _normalize(norm: Any, inputs: tuple[Tensor, ...]) -> None:
    x = inputs[0].float()
    if x.numel() > x.shape[1]:
        variance = x.var((0, 2, 3))
        norm.running_mean.copy_(x.mean((0, 2, 3)))
        # Do not amplify a channel that hardly varies: its rounding errors would decide what is found.
        norm.running_var.copy_(variance.maximum(variance.mean()))


def _branch_ends(model: nn.Module) -> Iterator[Any]:
    """The last layer of each residual branch."""
    for block in model.modules():
        if hasattr(block, "bn3"):
            yield block.bn3
        elif hasattr(block, "shortcut"):
            yield getattr(block.conv3, "norm", block.conv3)
        elif hasattr(block, "skip") and hasattr(block, "norm"):
            yield block.norm


def _standardize(layer: Any, inputs: tuple[Tensor, ...]) -> None:
    """Give the layer's outputs mean 0 and deviation 1, as a norm would: else the mean hides what varies."""
    if not hasattr(layer, "standardized"):
        layer.standardized = True
        out = layer.forward(inputs[0])
        others = [d for d in range(out.ndim) if d != 1]
        variance = out.var(others)
        scale = variance.maximum(variance.mean()).clamp(min=1e-12).rsqrt()
        layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias.add_(-out.mean(others)).mul_(scale)


@contextmanager
def _hooked(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def inputs_of(layers: dict[str, nn.Module], model: nn.Module, image: Tensor) -> dict[str, list[Tensor]]:
    """What each layer receives, call by call, while ``model`` runs on ``image``."""
    found: dict[str, list[Tensor]] = {name: [] for name in layers}

    def recorder(name: str) -> Any:
        return lambda _, inputs: found[name].append(inputs[0].float())

    with _hooked([layer.register_forward_pre_hook(recorder(name)) for name, layer in layers.items()]):
        model([image])
    return {name: values for name, values in found.items() if values}


def rows_of(x: Tensor) -> Tensor:
    """Feature maps [1, C, H, W] or features [K, C] as rows [H * W or K, C]."""
    return x[0].flatten(1).T if x.ndim == 4 else x


def scale_(layer: Any, inputs: list[Tensor], mean: float, deviation: float) -> None:
    """Change ``layer`` so that each of its outputs has this mean and deviation over ``inputs``."""
    x = torch.cat([rows_of(i) for i in inputs])
    weight = layer.weight.flatten(1)
    out = x @ weight.T
    scale = deviation / (out.std(0) + 1e-12)
    layer.weight.copy_((weight * scale[:, None]).view_as(layer.weight))
    layer.bias.copy_(mean - out.mean(0) * scale)


@dataclass
class Features:
    """The rows [n, d] that a last layer receives, and their regularized covariance."""

    x: Tensor
    mean: Tensor
    factor: Tensor  # Cholesky factor [d, d]

    @staticmethod
    def of(rows: Tensor) -> Features:
        x = rows.double()
        centered = x - x.mean(0)
        covariance = centered.T @ centered / len(x)
        covariance.diagonal().add_(RIDGE * covariance.diagonal().mean() + 1e-12)
        return Features(centered, x.mean(0), torch.linalg.cholesky(covariance))

    def distinctness(self) -> Tensor:
        """The Mahalanobis distance [n] of each row from the mean: how well a linear layer can single it out."""
        return torch.linalg.solve_triangular(self.factor, self.x.T, upper=False).square().sum(0)

    def stand_out_(self, layer: Any, rows: Tensor, channels: Tensor, logits: Tensor, background: float) -> None:
        """Change ``layer`` so that each of ``rows`` has its logit in its channel, all else about ``background``."""
        chosen = self.x[rows]
        wanted = chosen.new_zeros(len(rows), layer.weight.shape[0])
        wanted[torch.arange(len(rows)), channels] = logits.to(chosen) - background
        solved = torch.cholesky_solve(chosen.T, self.factor)  # [d, rows]
        gram = chosen @ solved
        gram.diagonal().add_(1e-3 * gram.diagonal().mean())
        weight = (solved @ torch.linalg.solve(gram, wanted)).T
        layer.weight.copy_(weight.view_as(layer.weight))
        layer.bias.copy_(background - weight @ self.mean)


def _apart(score: Tensor, shape: tuple[int, int], count: int) -> list[int]:
    """The ``count`` best cells of a map that lie apart from one another and from the border."""
    height, width = shape
    gap = max(1, int((height * width / (4 * max(count, 1))) ** 0.5) // 2)
    grid = score.view(height, width).clone()
    border = 1 if min(shape) > 2 else 0
    inner = torch.zeros_like(grid, dtype=torch.bool)
    inner[border : height - border, border : width - border] = True
    grid[~inner] = -1
    found: list[int] = []
    while len(found) < count and float(grid.max()) > 0:
        y, x = divmod(int(grid.argmax()), width)
        grid[max(y - gap, 0) : y + gap + 1, max(x - gap, 0) : x + gap + 1] = -1
        found.append(y * width + x)
    return found


def _logits(count: int) -> Tensor:
    return torch.linspace(HIGHEST, LOWEST, count)


def _lower(logit: Tensor, i: int) -> float:
    """The logit of neighbor ``i``; neighbors differ, or rounding would decide which of them suppresses the others."""
    return float(logit) - NEIGHBOR - STEP * i


def map_objects_(layer: Any, maps: list[Tensor], channels: int) -> None:
    """Let objects stand out in the heatmaps [1, channels, H, W] that ``layer`` makes of ``maps``, one per level."""
    features = Features.of(torch.cat([rows_of(x) for x in maps]))
    distinct = features.distinctness()
    sizes = [x.shape[-2] * x.shape[-1] for x in maps]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    count = min(OBJECTS, PER_CHANNEL * channels)
    rows, neighbors = [], []
    for level, (start, x) in enumerate(zip(starts, maps, strict=True)):
        height, width = x.shape[-2:]
        share = count // len(maps) + (level < count % len(maps))
        for cell in _apart(distinct[start : start + sizes[level]], (height, width), min(share, sizes[level] // 9)):
            rows.append(start + cell)
            y, column = divmod(cell, width)
            around = [(y, column - 1), (y + 1, column)]
            neighbors.append([start + a * width + b for a, b in around if 0 <= a < height and 0 <= b < width])
    logits = _logits(len(rows))
    which = [i % channels for i in range(len(rows))]
    scale_(layer, maps, BACKGROUND, 0.6)
    kept = layer.weight.clone(), layer.bias.clone()
    all_rows = rows + [n for around in neighbors for n in around]
    all_which = which + [c for c, around in zip(which, neighbors, strict=True) for _ in around]
    lower = [_lower(v, i) for v, around in zip(logits, neighbors, strict=True) for i in range(len(around))]
    features.stand_out_(
        layer, torch.tensor(all_rows), torch.tensor(all_which), torch.tensor([*logits.tolist(), *lower]), BACKGROUND
    )
    others = [c for c in range(layer.weight.shape[0]) if c not in which]
    layer.weight[others], layer.bias[others] = kept[0][others], kept[1][others]


def region_objects_(layer: Any, regions: Tensor, boxes: Tensor) -> None:
    """Let ``layer`` classify the first regions [K, C], whose ``boxes`` [K, 4] do not overlap, as objects."""
    from pyrcnn import ops

    overlap = ops.box_iou(boxes, boxes)
    rows: list[int] = []
    for i in range(min(len(boxes), 4 * OBJECTS)):  # only proposals that are far above the others
        if len(rows) < OBJECTS and float((boxes[i, 2:] - boxes[i, :2]).min()) > 8 and (overlap[i, rows] < 0.3).all():
            rows.append(i)
    classes = layer.weight.shape[0] - 1
    logits = _logits(len(rows))
    all_rows, all_which, all_logits = [], [], []
    for i, row in enumerate(rows):
        near = [n for n in (overlap[row] > 0.65).nonzero()[:, 0].tolist() if n not in rows][:4]
        all_rows += [row, *near]
        all_which += [1 + i % classes] * (1 + len(near))
        all_logits += [float(logits[i]), *(_lower(logits[i], n) for n in range(len(near)))]
    scale_(layer, [regions], BACKGROUND, 0.3)
    kept = layer.weight.clone(), layer.bias.clone()
    Features.of(regions).stand_out_(
        layer, torch.tensor(all_rows), torch.tensor(all_which), torch.tensor(all_logits), BACKGROUND
    )
    others = [c for c in range(1, classes + 1) if c not in all_which]
    layer.weight[others], layer.bias[others] = kept[0][others], kept[1][others]
    layer.weight[0], layer.bias[0] = 0, 0  # the background's logit, which the others are compared with


def _proposals(model: Any, image: Tensor) -> Tensor:
    """The boxes [K, 4] that the region head of our Faster R-CNN, or of torchvision's, gets in ``image``."""
    if hasattr(model, "proposals"):
        pixels, sizes, _ = model.preprocess([image])
        return model.proposals(pixels, sizes)[0][0]
    found: list[Tensor] = []
    with _hooked([model.rpn.register_forward_hook(lambda *call: found.append(call[2][0][0]))]):
        model([image])
    return found[0]


@torch.no_grad()
def calibrate_(model: Any, image: Tensor) -> Any:
    """Change the norms' statistics and the last layers of ``model`` so that it finds objects in ``image``; returns it.

    ``model`` is ours or torchvision's Faster R-CNN.
    """
    for last in _branch_ends(model):
        last.weight.mul_(BRANCH)
    named = dict(model.named_modules())
    hooks = [m.register_forward_pre_hook(_normalize) for m in named.values() if hasattr(m, "running_var")]
    hooks += [
        m.register_forward_pre_hook(_standardize)
        for name, m in named.items()
        if isinstance(m, nn.Linear) or (name.startswith("rpn.") and isinstance(m, nn.Conv2d))
    ]
    with _hooked(hooks):
        model([image])
    for module in named.values():
        module.__dict__.pop("standardized", None)
    heads = {name: m for name, m in named.items() if name.startswith("head.") and name.endswith(".out")}
    if heads:
        for name, maps in inputs_of(heads, model, image).items():
            kind = name.split(".")[1]
            if kind == "heatmap":
                map_objects_(heads[name], maps, heads[name].out_channels)
            else:
                scale_(heads[name], maps, *CENTERNET[kind])
        return model
    # torchvision's Faster R-CNN gives these layers the same names
    last = {f"{name[:3]} {name.rpartition('.')[2]}": module for name, module in named.items()}
    proposing = {name: last[name] for name in ("rpn cls_logits", "rpn bbox_pred")}
    received = inputs_of(proposing, model, image)
    scale_(last["rpn bbox_pred"], received["rpn bbox_pred"], *RPN_BOXES)
    map_objects_(last["rpn cls_logits"], received["rpn cls_logits"], last["rpn cls_logits"].out_channels)
    classifying = {name: last[name] for name in ("roi cls_score", "roi bbox_pred")}
    regions = inputs_of(classifying, model, image)["roi cls_score"][0]
    scale_(last["roi bbox_pred"], [regions], *ROI_BOXES)
    region_objects_(last["roi cls_score"], regions, _proposals(model, image))
    return model
