"""A network as a graph of its layers, with the batch norms multiplied into the convolutions before them."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..models import layers
from ..models.backbones import resnet
from ..ops import FrozenBatchNorm2d

# Functions that compute with sizes, so that a graph for all sizes keeps them as calls.
_WHOLE = (layers.pad_same, layers.max_pool_zero_padded, layers.upsample_nearest, resnet.max_pool_same)
_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__(autowrap_functions=_WHOLE)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FrozenBatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def traced(network: nn.Module) -> fx.GraphModule:
    """``network``, a function of one tensor, as straight-line code over its layers (shared, not copied)."""
    network.eval()
    graph = fx.GraphModule(network, _Tracer().trace(network))
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and isinstance(graph.get_submodule(node.target), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    return cleaned(graph)


def cleaned(graph: fx.GraphModule) -> fx.GraphModule:
    """Without the layers that nothing uses, its code written anew."""
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def layer(graph: fx.GraphModule, node: Any, *kinds: type[nn.Module]) -> Any:
    """The layer that ``node`` calls if it is of one of these kinds and called nowhere else, or None."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    called = graph.get_submodule(str(node.target))
    once = sum(other.op == "call_module" and other.target == node.target for other in graph.graph.nodes) == 1
    return called if isinstance(called, kinds) and once else None


def only_user(node: fx.Node) -> fx.Node | None:
    """The node that alone takes the result of ``node``, or None where several do."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def erase(graph: fx.GraphModule, last: fx.Node, first: fx.Node) -> None:
    """Erase the nodes from ``last`` back to ``first``, each the only user of the next."""
    chain = [first]
    while chain[-1] is not last:
        chain.append(next(iter(chain[-1].users)))
    for node in reversed(chain):
        graph.graph.erase_node(node)


def _crops(node: fx.Node) -> bool:
    """Whether ``node`` cuts rows and columns off and leaves the channels alone, as ``x[..., :-1, :-1]``."""
    if node.op != "call_function" or node.target is not operator.getitem:
        return False
    index = node.args[1]
    return isinstance(index, tuple) and index[0] is Ellipsis and len(index) <= 3


def _scale_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """What the norm does in inference, per channel, in float64."""
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


def fold_norms(graph: fx.GraphModule) -> fx.GraphModule:
    """Multiply every norm into the convolution whose result it alone takes; others, as before an activation, stay.

    Changes the graph's layers in place. Exact up to rounding: the products are computed in float64.
    """
    for node in list(graph.graph.nodes):
        norm = layer(graph, node, *_NORMS)
        if norm is None or norm.weight is None or norm.running_var is None:
            continue
        source = node.args[0]
        while _crops(source) and only_user(source) is not None:
            source = source.args[0]
        conv = layer(graph, source, nn.Conv2d, nn.ConvTranspose2d)
        grouped = isinstance(conv, nn.ConvTranspose2d) and conv.groups > 1  # its weight has no dimension of all outputs
        if conv is not None and only_user(source) is not None and not grouped:
            _absorb(conv, norm)
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    return cleaned(graph)
