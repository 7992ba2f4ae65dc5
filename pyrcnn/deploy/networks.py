"""Copies of detectors whose networks are replaced by graphs, or by what is made from the graphs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..errors import require
from ..models.detector import Detector
from .fold import fold_norms_
from .fx_graph import get_layer, only_user, remove_unused_, result_shapes, trace

DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # of the networks of an optimized model

Build = Callable[[str, fx.GraphModule, tuple[int, ...]], Callable[[Tensor], Any]]


def check_model(model: Any, dtype: torch.dtype | None, size: Any) -> None:
    """Raise :class:`pyrcnn.InputError` unless ``model`` is a detector of ours and the other arguments are valid."""
    known = isinstance(model, Detector)
    require(known, f"model must be a detector, such as a CenterNet or FasterRCNN, got {type(model).__name__}")
    require(dtype is None or dtype in DTYPES, f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
    pair = isinstance(size, Sequence) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
    require(size is None or pair, f"size must be two positive integers, height and width, got {size!r}")


def _flatten_channels_last_(graph: fx.GraphModule, example: tuple[int, ...], dtype: torch.dtype) -> None:
    """Let linear layers after ``flatten`` read regions in the order of channels_last, which saves a copy of these."""
    nodes = [n for n in graph.graph.nodes if n.op == "call_method" and n.target == "flatten" and n.args[1:] == (1,)]
    shapes = result_shapes(graph, example, dtype) if nodes else {}
    for node in nodes:
        linear = get_layer(graph, only_user(node), nn.Linear)
        _, channels, *cells = shapes[node.args[0].name]
        if linear is not None and cells not in ([], [1, 1]):
            rows = linear.weight.detach().unflatten(1, (channels, -1))  # [outputs, C, S * S]
            linear.weight = nn.Parameter(rows.transpose(1, 2).flatten(1).contiguous(), requires_grad=False)
            with graph.graph.inserting_before(node):
                permuted = graph.graph.call_method("permute", (node.args[0], (0, 2, 3, 1)))
            node.args = (permuted, 1)
    remove_unused_(graph)


def _make_graph(
    module: nn.Module, example: tuple[int, ...], dtype: torch.dtype, channels_last: bool, fold: bool
) -> fx.GraphModule:
    graph = trace(copy.deepcopy(module).eval().requires_grad_(False))
    if fold:
        fold_norms_(graph)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    graph.to(dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
    if channels_last:
        _flatten_channels_last_(graph, example, dtype)
    return graph


def replace_networks(
    model: Detector,
    dtype: torch.dtype | None = None,
    *,
    weight_dtype: torch.dtype | None = None,
    channels_last: bool = False,
    fold: bool = True,
    size: tuple[int, int] | None = None,
    build: Build | None = None,
) -> Any:
    """A copy of ``model`` for inference whose networks are what ``build`` returns for their graphs.

    Args:
        model: is left unchanged.
        dtype: of the networks' inputs; None: the model's.
        weight_dtype: of the weights in the graphs; None: ``dtype``.
        channels_last: memory format of the weights, and of regions before linear layers.
        fold: multiply batch norms into convolutions.
        size: (height, width) of the network input for the examples that ``build`` gets; None: the configuration's.
        build: called with a network's name, its graph and the shape of a typical input; None: networks are the graphs.
    """
    dtype = dtype or model.dtype
    replacements: dict[str, Callable[[Tensor], Any]] = {}
    for name, network in model.networks(size).items():
        graph = _make_graph(network.module, network.example, weight_dtype or dtype, channels_last, fold)
        replacements[name] = graph if build is None else build(name, graph, network.example)
    return model.with_networks(replacements, dtype=dtype)
