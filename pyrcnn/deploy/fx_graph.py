"""Networks as ``torch.fx`` graphs: tracing, and what every pass over a graph needs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..models import layers
from ..models.backbones import resnet
from ..ops import FrozenBatchNorm2d

# Functions that compute with sizes: as calls in the graph they serve all sizes.
_WHOLE = (layers.pad_same, layers.max_pool_zero_padded, layers.upsample_nearest, resnet.max_pool_same)


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__(autowrap_functions=_WHOLE)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = isinstance(m, FrozenBatchNorm2d | layers.Float32Layer)
        return whole or super().is_leaf_module(m, module_qualified_name)


def trace(network: nn.Module) -> fx.GraphModule:
    """The graph of ``network``, a function of one tensor; it shares the layers. ``nn.Identity`` layers are left out."""
    network.eval()
    graph = fx.GraphModule(network, _Tracer().trace(network))
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and isinstance(graph.get_submodule(node.target), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    remove_unused_(graph)
    return graph


def remove_unused_(graph: fx.GraphModule) -> None:
    """Remove nodes and layers whose results nothing uses, and generate the code of ``graph`` again."""
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()


def get_layer(graph: fx.GraphModule, node: Any, *kinds: type[nn.Module]) -> Any:
    """The layer that ``node`` calls if it has one of these types and no other node calls it; otherwise None."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    called = graph.get_submodule(str(node.target))
    once = sum(other.op == "call_module" and other.target == node.target for other in graph.graph.nodes) == 1
    return called if isinstance(called, kinds) and once else None


def set_layer_(graph: fx.GraphModule, name: str, layer: nn.Module) -> None:
    """Put ``layer`` in the place of the layer called ``name``."""
    parent, _, last = name.rpartition(".")
    setattr(graph.get_submodule(parent), last, layer)


def only_user(node: fx.Node) -> fx.Node | None:
    """The node that uses the result of ``node``; None if there are several or none."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def erase_nodes_(graph: fx.GraphModule, last: fx.Node, first: fx.Node) -> None:
    """Erase the nodes from ``last`` back to ``first``, each the only user of the one before."""
    nodes = [first]
    while nodes[-1] is not last:
        nodes.append(next(iter(nodes[-1].users)))
    for node in reversed(nodes):
        graph.graph.erase_node(node)


def copy_to_meta(graph: fx.GraphModule) -> fx.GraphModule:
    """A copy of ``graph`` on the meta device, which computes shapes and no numbers. Weights are never copied."""
    # deepcopy takes what its memo holds
    return copy.deepcopy(graph, {id(t): _on_meta(t) for t in [*graph.parameters(), *graph.buffers()]})


def _on_meta(t: Tensor) -> Tensor:
    empty = t.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(t, nn.Parameter) else empty


class _Shapes(fx.Interpreter):
    """Runs the graph on the meta device and keeps the shape of every result."""

    def __init__(self, graph: fx.GraphModule):
        super().__init__(copy_to_meta(graph))
        self.shapes: dict[str, list[int]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n.name] = list(result.shape)
        return result


def result_shapes(graph: fx.GraphModule, shape: Sequence[int], dtype: torch.dtype) -> dict[str, list[int]]:
    """Node name → shape of its result, for an input of this ``shape`` and ``dtype``. Computes no numbers."""
    interpreter = _Shapes(graph)
    interpreter.run(torch.empty(*shape, device="meta", dtype=dtype))
    return interpreter.shapes
