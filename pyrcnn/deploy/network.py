"""A detector's networks replaced by faster ones that compute the same; what lies between them stays the model's own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from .. import _native
from ..errors import require
from ..models import CenterNet, FasterRCNN
from .fold import cleaned, fold_norms, layer, only_user, traced
from .pack import Allowed, available, pack
from .tile_conv import fastest

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class _Maps(nn.Module):
    """CenterNet up to its raw maps."""

    def __init__(self, model: CenterNet):
        super().__init__()
        self.backbone, self.neck, self.head = model.backbone, model.neck, model.head

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return self.head(self.neck(self.backbone(pixels)))


class _Level(nn.Module):
    """The proposal head on one level."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = self.head([x])
        return logits[0], deltas[0]


class _Levels(nn.Module):
    """The proposal head on every level, as the model calls it."""

    def __init__(self, level: nn.Module):
        super().__init__()
        self.level = level

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits and deltas per level."""
        pairs = [self.level(x) for x in features]
        return [logits for logits, _ in pairs], [deltas for _, deltas in pairs]


class _Regions(nn.Module):
    """The RoI head from pooled regions to logits and deltas."""

    def __init__(self, head: nn.Module, predictor: nn.Module):
        super().__init__()
        self.head, self.predictor = head, predictor

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        return self.predictor(self.head(regions))


def input_size(config: Any) -> tuple[int, int]:
    """The height and width of the network's input that ``config`` leads to: for a wide picture, where it varies."""
    if hasattr(config, "input_size"):
        return config.input_size, config.input_size
    shorter = config.max_size if config.resize == "square" else config.min_size
    return -(-shorter // 32) * 32, -(-config.max_size // 32) * 32


def _flatten_without_copy(graph: fx.GraphModule, channels: int) -> fx.GraphModule:
    """Let linear layers that take flattened regions take them in the order that channels_last has in memory."""
    for node in list(graph.graph.nodes):
        if node.op != "call_method" or node.target != "flatten" or node.args[1:] != (1,):
            continue
        user = only_user(node)
        linear = layer(graph, user, nn.Linear)
        if linear is not None and linear.in_features > channels:
            rows = linear.weight.detach().unflatten(1, (channels, -1))  # [outputs, C, S * S]
            linear.weight = nn.Parameter(rows.transpose(1, 2).flatten(1).contiguous(), requires_grad=False)
            with graph.graph.inserting_before(node):
                permuted = graph.graph.call_method("permute", (node.args[0], (0, 2, 3, 1)))
            node.args = (permuted, 1)
    return cleaned(graph)


def laid_out(graph: fx.GraphModule, size: Sequence[int], dtype: torch.dtype, allowed: Allowed) -> nn.Module:
    """``graph`` packed; chains in bfloat16, which were measured nowhere, only where a trial finds them faster."""
    if not allowed.chain or dtype != torch.bfloat16 or _native.build_info()["cpu_tiles"] == "":
        return pack(graph, size, dtype, allowed)
    apart = pack(copy.deepcopy(graph), size, dtype, allowed._replace(chain=False))
    return fastest([pack(graph, size, dtype, allowed), apart], size)


def check(model: Any, size: Any) -> None:
    """Refuse what is no detector of ours, and a ``size`` that is neither None nor two positive integers."""
    known = isinstance(model, CenterNet | FasterRCNN)
    require(known, f"model must be a CenterNet or FasterRCNN, got {type(model).__name__}")
    pair = isinstance(size, Sequence) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
    require(size is None or pair, f"size must be two positive integers, height and width, got {size!r}")


def prepared(model: nn.Module, dtype: torch.dtype | None, channels_last: bool, fold: bool, packed: bool,
             size: tuple[int, int] | None = None, allowed: Allowed | None = None) -> Any:  # fmt: skip
    """A copy of ``model`` for inference: norms folded, weights in ``dtype`` and laid out for speed.

    ``packed`` lays them out for oneDNN where it has kernels, or for what is ``allowed`` besides where feature maps are
    in channels_last, for inputs of about ``size``; such a copy neither exports nor moves to another device.
    """
    require(dtype is None or dtype in DTYPES, f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
    first = next(model.parameters())
    dtype, device = dtype or first.dtype, first.device
    faster: Any = copy.deepcopy(model).eval().requires_grad_(False)
    packed = packed and device.type == "cpu" and available(dtype)

    def network(module: nn.Module, *input: int, flat: int = 0) -> nn.Module:
        graph = traced(module)
        if fold:
            graph = fold_norms(graph)
        if flat and channels_last:
            graph = _flatten_without_copy(graph, flat)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        graph.to(dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
        return laid_out(graph, input, dtype, allowed if allowed and channels_last else Allowed()) if packed else graph

    height, width = size or input_size(model.config)  # type: ignore[arg-type]
    if isinstance(faster, CenterNet):
        faster.backbone = network(_Maps(faster), 1, 3, height, width)
        faster.neck, faster.head = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    else:
        stride, channels = faster.backbone.strides[0], faster.backbone.channels[0]
        resolution = faster.config.roi.resolution // (2 if faster.config.roi.pool == "crop" else 1)
        regions = faster.config.rpn.after_nms[1], channels, resolution, resolution
        faster.backbone = network(faster.backbone, 1, 3, height, width)
        faster.rpn.head = _Levels(network(_Level(faster.rpn.head), 1, channels, height // stride, width // stride))
        faster.roi.head = network(_Regions(faster.roi.head, faster.roi.predictor), *regions, flat=channels)
        faster.roi.predictor = nn.Identity()
    # an empty first parameter, for preprocess to see device and dtype although the weights may be packed away
    faster.register_parameter("precision", nn.Parameter(torch.empty(0, dtype=dtype, device=device), False))
    return faster
