"""Sums and activations that follow a convolution, which can compute them before it writes its result."""

from __future__ import annotations

import math
import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from ...fx_graph import get_layer, only_user

Activation = tuple[str, list[float]]  # oneDNN's name and arguments
NONE: Activation = ("none", [])
RELU: Activation = ("relu", [])
RELU6: Activation = ("hardtanh", [0.0, 6.0])
LIMITS = {"none": (-math.inf, math.inf), "relu": (0.0, math.inf), "hardtanh": (0.0, 6.0)}  # the same as a range


def find_activation(graph: fx.GraphModule, node: fx.Node | None) -> Activation | None:
    """The activation that ``node`` computes, or None."""
    if node is None:
        return None
    kind = type(get_layer(graph, node, nn.Module)) if node.op == "call_module" else node.target
    return {nn.ReLU: RELU, F.relu: RELU, torch.relu: RELU, nn.ReLU6: RELU6, F.relu6: RELU6}.get(kind)  # type: ignore[arg-type]


def find_sum(node: fx.Node, shapes: dict[str, list[int]]) -> tuple[fx.Node, fx.Node] | None:
    """The sum that is the only user of ``node``, and its other summand if that has the same shape; otherwise None."""
    total = only_user(node)
    if total is None or total.target is not operator.add:
        return None
    other = next((a for a in total.args if a is not node), None)
    same = isinstance(other, fx.Node) and shapes[other.name] == shapes[node.name]
    return (total, other) if same else None  # type: ignore[return-value]
