"""Batch norms multiplied into the convolutions before them."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..ops import FrozenBatchNorm2d
from .fx_graph import get_layer, only_user, remove_unused_

_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def _crops(node: fx.Node) -> bool:
    """Whether ``node`` removes rows and columns and keeps all channels, as ``x[..., :-1, :-1]`` does."""
    if node.op != "call_function" or node.target is not operator.getitem:
        return False
    index = node.args[1]
    return isinstance(index, tuple) and index[0] is Ellipsis and len(index) <= 3


def _scale_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """The factor and the summand that ``norm`` applies to each channel in inference, in float64."""
    scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


@torch.no_grad()
def _absorb(conv: nn.Conv2d | nn.ConvTranspose2d, norm: Any) -> None:
    scale, shift = _scale_and_shift(norm)
    outputs = 1 if isinstance(conv, nn.ConvTranspose2d) else 0  # the weight's dimension of output channels
    weight = conv.weight.double() * scale.reshape([-1 if d == outputs else 1 for d in range(4)])
    bias = shift if conv.bias is None else conv.bias.double() * scale + shift
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)


def fold_norms_(graph: fx.GraphModule) -> None:
    """Multiply every norm into the convolution before it, if nothing else uses that convolution's result.

    Changes weights in place. Other norms stay, such as those before an activation. Exact up to rounding: products are
    computed in float64.
    """
    for node in list(graph.graph.nodes):
        norm = get_layer(graph, node, *_NORMS)
        if norm is None or norm.weight is None or norm.running_var is None:
            continue
        source = node.args[0]
        while _crops(source) and only_user(source) is not None:
            source = source.args[0]
        conv = get_layer(graph, source, nn.Conv2d, nn.ConvTranspose2d)
        grouped = isinstance(conv, nn.ConvTranspose2d) and conv.groups > 1  # its weight has no dimension of all outputs
        if conv is not None and only_user(source) is not None and not grouped:
            _absorb(conv, norm)
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    remove_unused_(graph)
