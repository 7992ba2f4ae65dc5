"""Replaces convolutions in a graph by chains."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import fx, nn

from ....fx_graph import erase_nodes_, get_layer, only_user, remove_unused_, set_layer_
from ....machine import machine
from .find import ChainFinder, is_depthwise
from .layers import ConvChain, ConvChains

MIN_PIXELS = 64  # of the result; with fewer, reading the weights takes longer than the chain saves


def is_chain_faster(size: Sequence[int], dtype: torch.dtype) -> bool:
    """Whether a chain whose result has this ``size`` [N, C, H, W] is faster than its convolutions one by one.

    Measured with AVX2 in float32 and two threads: 1.1 to 2.7 times as fast on the maps of MobileNet's networks.
    """
    pixels = size[0] * size[2] * size[3]
    return dtype == torch.float32 and machine().kernels != "default" and pixels >= MIN_PIXELS


def replace_by_chains_(graph: fx.GraphModule, shapes: dict[str, list[int]]) -> None:
    """Replace consecutive convolutions by a chain where that is faster.

    ``shapes``, of the nodes' results, gets the shapes of the new nodes. The graph still takes inputs of any size.
    """
    finder = ChainFinder(graph, shapes)
    calls = [node for node in graph.graph.nodes if get_layer(graph, node, nn.Conv2d) is not None]
    # Depthwise convolutions first: chains without one use what they leave.
    calls.sort(key=lambda node: not is_depthwise(get_layer(graph, node, nn.Conv2d)))
    for node in calls:
        links = None if node._erased else finder.find(node)
        if links is None:
            continue
        first, end = links.present()[0], links.present()[-1]
        if not is_chain_faster(shapes[end.last.name], first.conv.weight.dtype):
            continue
        name = str(end.first.target)
        set_layer_(graph, name, ConvChain(links))
        with graph.graph.inserting_before(end.last):
            chained = graph.graph.call_module(name, (first.source, *([] if end.other is None else [end.other])))
        shapes[chained.name] = shapes[end.last.name]
        end.last.replace_all_uses_with(chained)
        erase_nodes_(graph, end.last, first.first)
    remove_unused_(graph)


def join_chains_(graph: fx.GraphModule) -> None:
    """Replace chains between which nothing else is computed by one call."""
    run: list[fx.Node] = []
    for node in list(graph.graph.nodes):
        if get_layer(graph, node, ConvChain) is not None:
            run.append(node)
            continue
        if len(run) > 1:
            _join_(graph, run)
        run = []
    remove_unused_(graph)


def reads_any_layout(graph: fx.GraphModule) -> bool:
    """Whether the network's input may be NCHW in memory at no cost: a chain that begins with a 3x3 convolution."""
    input = next(node for node in graph.graph.nodes if node.op == "placeholder")
    user = only_user(input)
    first = get_layer(graph, user, ConvChain, ConvChains)
    return first is not None and first.reads_any_layout(user.args.index(input))  # type: ignore[union-attr]


def _join_(graph: fx.GraphModule, run: list[fx.Node]) -> None:
    arguments = [a for node in run for a in node.args if isinstance(a, fx.Node)]
    inputs = [a for a in dict.fromkeys(arguments) if a not in run]
    index = {node: i for i, node in enumerate([*inputs, *run])}
    sources = [(index[node.args[0]], index[node.args[1]] if len(node.args) > 1 else -1) for node in run]  # type: ignore[index]
    chains = [graph.get_submodule(str(node.target)) for node in run]
    graph.add_submodule(f"{run[0].name}_chains", ConvChains(chains, sources))  # type: ignore[arg-type]
    with graph.graph.inserting_after(run[-1]):
        call = graph.graph.call_module(f"{run[0].name}_chains", tuple(inputs))
    for i, node in reversed(list(enumerate(run))):
        with graph.graph.inserting_after(call):
            result = graph.graph.call_function(operator.getitem, (call, i))
        node.replace_all_uses_with(result)
    for node in reversed(run):
        graph.graph.erase_node(node)
