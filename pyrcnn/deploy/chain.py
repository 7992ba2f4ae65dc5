"""Convolutions of optimized networks that follow one another, computed tile by tile: MobileNet's blocks, slim heads."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from .. import _native
from ..models.layers import pad_same, upsample_nearest
from ..ops.conv_chain import NO_LIMITS, Chain, chain_weight, conv_chains, convolved
from .fold import cleaned, erase, layer, only_user
from .stages import LIMITS, Activation, activation, sum_with

LEAST_PIXELS = 64  # of the result; with fewer, weights are read for too little work
MOST_COLOURS = 4  # inputs of a first 3x3 convolution: of more, Winograd's algorithm or oneDNN multiply faster


@dataclass
class Stage:
    """One convolution of a chain and what follows it."""

    conv: nn.Conv2d
    first: fx.Node  # the convolution
    last: fx.Node  # whose value is the result
    activation: Activation
    other: fx.Node | None = None  # added before the activation
    up: int = 1  # 2: each pixel of that counts for four
    same: bool = False  # behind TensorFlow's padding

    @property
    def limits(self) -> tuple[float, float]:
        """What the result is clamped to."""
        return LIMITS[self.activation[0]]

    @property
    def source(self) -> Any:
        """What is convolved."""
        source: Any = self.first.args[0]
        return source.args[0] if self.same else source


@dataclass
class _Window:
    """How a 3x3 convolution moves over a map."""

    stride: int = 0
    padding: int = 0
    same: bool = False

    @staticmethod
    def of(stage: Stage | None) -> _Window:
        if stage is None or stage.conv.kernel_size != (3, 3):
            return _Window()
        return _Window(stage.conv.stride[0], int(stage.conv.padding[0]), stage.same)

    def on(self, sizes: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """The padding for a map of these ``sizes`` (height, width), and the result's sizes."""
        if not self.stride:
            return (0, 0, 0, 0), sizes
        padding = [self.padding] * 4
        if self.same:
            lacks = [max((math.ceil(n / self.stride) - 1) * self.stride + 3 - n, 0) for n in sizes]
            padding = [lack // 2 for lack in lacks] + [lack - lack // 2 for lack in lacks]
        return padding, convolved(sizes, self.stride, padding)


class ConvChain(nn.Module):
    """The convolutions of ``stages``, one or more of them 1x1, of ``x`` [N, C, H, W], plus ``other`` where given."""

    def __init__(self, expand: Stage | None, depthwise: Stage | None, project: Stage, last: Stage | None):
        super().__init__()
        stages = (expand, depthwise, project, last)
        # no parameters: they are not to be moved or saved
        weights: Any = [s and chain_weight(s.conv.weight, s.conv.bias, s is depthwise) for s in stages]
        limits = [x for i, s in enumerate(stages) for x in (s.limits if s else NO_LIMITS[2 * i : 2 * i + 2])]
        expand_, depthwise_, project_, last_ = weights
        channels = project.conv.in_channels, project.conv.out_channels, (last or project).conv.out_channels
        self.windows = _Window.of(expand), _Window.of(depthwise)
        up = (last or project).up
        self.chain = Chain(expand_, depthwise_, project_, last_, channels, limits=limits, up=up)

    def reads_any_layout(self, place: int) -> bool:
        """Whether this one of its inputs need not be in channels_last."""
        return place == 0 and self.windows[0].stride > 0

    def on(self, sizes: Sequence[int], input: int = 0, other: int = -1) -> tuple[Chain, Sequence[int]]:
        """The chain for an input of these ``sizes`` (height, width), and its result's sizes."""
        first, second = self.windows
        before, sizes = first.on(sizes)
        padding, sizes = second.on(sizes)
        chain = self.chain._replace(stride=max(second.stride, 1), padding=padding, input=input, other=other,
                                    window_stride=first.stride, window_padding=before)  # fmt: skip
        return chain, sizes

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """[N, C, H, W] → [N, outputs, H / stride, W / stride]."""
        if other is None:
            return conv_chains([x], [self.on(x.shape[2:])[0]])[0]
        return conv_chains([x, other], [self.on(x.shape[2:], other=1)[0]])[0]


class ConvChains(nn.Module):
    """Several chains in one call, which wakes the threads once: ``sources`` are the maps that each reads and adds."""

    def __init__(self, chains: Sequence[ConvChain], sources: Sequence[tuple[int, int]]):
        super().__init__()
        self.chains = nn.ModuleList(chains)
        self.sources = tuple(sources)

    def reads_any_layout(self, place: int) -> bool:
        """Whether this one of its inputs need not be in channels_last."""
        pairs = zip(self.chains, self.sources, strict=True)
        readers = [(chain, sources.index(place)) for chain, sources in pairs if place in sources]
        return all(chain.reads_any_layout(where) for chain, where in readers)  # type: ignore[operator]

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Maps [N, C, H, W], counted from 0, the results counted on → the results."""
        sizes: list[Sequence[int]] = [x.shape[2:] for x in inputs]
        chains = []
        for module, (source, other) in zip(self.chains, self.sources, strict=True):
            chain, size = module.on(sizes[source], source, other)  # type: ignore[operator]
            chains.append(chain)
            sizes.append(size)
        return conv_chains(inputs, chains)

    def apart(self, *inputs: Tensor) -> list[Tensor]:
        """The same by one call after the other, to see what each takes."""
        maps = list(inputs)
        for chain, (source, other) in zip(self.chains, self.sources, strict=True):
            maps.append(chain(maps[source]) if other < 0 else chain(maps[source], maps[other]))
        return maps[len(inputs) :]


def _is_pointwise(conv: nn.Conv2d) -> bool:
    return (conv.kernel_size, conv.stride, conv.padding, conv.groups) == ((1, 1), (1, 1), (0, 0), 1)


def _is_3x3(conv: nn.Conv2d) -> bool:
    fits = (conv.kernel_size, conv.dilation, conv.padding_mode) == ((3, 3), (1, 1), "zeros")
    return fits and conv.stride in {(1, 1), (2, 2)} and conv.padding in {(0, 0), (1, 1), (2, 2)}


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return _is_3x3(conv) and conv.groups == conv.in_channels == conv.out_channels


def _is_first(conv: nn.Conv2d) -> bool:
    """Of a picture, as a network's first convolution."""
    return _is_3x3(conv) and conv.groups == 1 and conv.in_channels <= MOST_COLOURS


class _Finder:
    """The chains of a graph."""

    def __init__(self, graph: fx.GraphModule, shapes: dict[str, list[int]]):
        self.graph, self.shapes = graph, shapes

    def stage(self, node: Any, kind: Any) -> Stage | None:
        """The convolution of this kind at ``node``, with its activation and TensorFlow's padding before it."""
        conv = layer(self.graph, node, nn.Conv2d)
        if conv is None or not kind(conv):
            return None
        found = activation(self.graph, only_user(node))
        last: Any = only_user(node) if found else node
        source = node.args[0]
        same = isinstance(source, fx.Node) and source.target is pad_same and only_user(source) is node
        same = same and conv.padding == (0, 0) and source.args[1:] == (3, conv.stride[0])
        return Stage(conv, node, last, found or ("none", []), same=same)

    def behind(self, stage: Stage, kind: Any) -> Stage | None:
        """The convolution that alone takes the result of ``stage``."""
        return self.stage(only_user(stage.last), kind)

    def before(self, stage: Stage) -> Stage | None:
        """The convolution whose result the depthwise one of ``stage`` alone takes: a 1x1, or of a picture."""
        value = stage.source
        user = stage.first.args[0] if stage.same else stage.first
        if not isinstance(value, fx.Node) or only_user(value) is not user:
            return None
        for node in (value, value.args[0] if value.args else None):
            found = self.stage(node, lambda conv: _is_pointwise(conv) or _is_first(conv))
            if found is not None and found.last is value:
                return found
        return None

    def leads_to_depthwise(self, stage: Stage) -> bool:
        """Whether ``stage`` widens the map for a depthwise convolution, and so belongs to that one's chain."""
        user = only_user(stage.last)
        if user is not None and user.target is pad_same:
            user = only_user(user)
        return self.stage(user, _is_depthwise) is not None

    def sum(self, stage: Stage) -> tuple[fx.Node, fx.Node, int] | None:
        """The sum that alone takes the result of ``stage``, its other summand, and how often each pixel of that counts.

        A map that is upsampled for this sum alone is taken as it was, if sizes of other inputs will fit as well.
        """
        total = sum_with(stage.first, self.shapes)
        if total is None:
            return None
        node, other = total
        if other.target is upsample_nearest and only_user(other) is node:
            return node, other.args[0], 2  # type: ignore[return-value]
        return node, other, 1

    def with_sum(self, stage: Stage) -> Stage:
        """``stage`` with what is added to its result."""
        total = self.sum(stage) if stage.last is stage.first else None
        if total is None:
            return stage
        node, other, up = total
        found = activation(self.graph, only_user(node))
        last: Any = only_user(node) if found else node
        return Stage(stage.conv, stage.first, last, found or ("none", []), other, up, stage.same)

    def around(self, node: fx.Node) -> list[Stage | None] | None:
        """The chain whose depthwise convolution, first of two 1x1 ones or, in a pyramid, only one ``node`` is."""
        depthwise = self.stage(node, _is_depthwise)
        if depthwise is None:
            expand = self.stage(node, _is_pointwise)
            if expand is None or self.leads_to_depthwise(expand):
                return None
            lateral = self.with_sum(expand)
            if lateral.up > 1:
                return [None, None, lateral, None]
            project = self.behind(expand, _is_pointwise)
            if project is None or self.leads_to_depthwise(project):
                return None
            return [expand, None, self.with_sum(project), None]
        project = self.behind(depthwise, _is_pointwise)
        if project is None:
            return None
        expand = self.before(depthwise)
        if self.leads_to_depthwise(project):
            return [expand, depthwise, project, None]
        last = None if expand else self.behind(project, _is_pointwise)
        if last is not None and not self.leads_to_depthwise(last):
            return [None, depthwise, project, self.with_sum(last)]
        return [expand, depthwise, self.with_sum(project), None]


def suits(size: Sequence[int], dtype: torch.dtype) -> bool:
    """Whether a chain with a result of this ``size`` [N, C, H, W] is faster than its convolutions one by one.

    AVX2 in float32, two threads: 1.1 to 2.7 times as fast on the maps of MobileNet's networks. In bfloat16, with AMX or
    AVX512_BF16, that is expected and not measured: there a trial decides.
    """
    machine = _native.build_info()
    vectors = dtype == torch.float32 and machine["cpu_capability"] != "default"
    tiles = dtype == torch.bfloat16 and machine["cpu_tiles"] != ""
    return (vectors or tiles) and size[0] * size[2] * size[3] >= LEAST_PIXELS


def chain(graph: fx.GraphModule, shapes: dict[str, list[int]]) -> fx.GraphModule:
    """Replace convolutions that follow one another by chains where that is faster; ``shapes``: of the nodes' results.

    Changes ``graph`` in place, and adds the new nodes' shapes. It still takes inputs of any size.
    """
    finder = _Finder(graph, shapes)
    calls = [node for node in graph.graph.nodes if layer(graph, node, nn.Conv2d) is not None]
    calls.sort(key=lambda node: not _is_depthwise(layer(graph, node, nn.Conv2d)))  # what these leave is for the rest
    for node in calls:
        stages = None if node._erased else finder.around(node)
        if stages is None:
            continue
        ends = [stage for stage in stages if stage is not None]
        first, end = ends[0], ends[-1]
        if not suits(shapes[end.last.name], first.conv.weight.dtype):
            continue
        name = str(end.first.target)
        parent, _, own = name.rpartition(".")
        setattr(graph.get_submodule(parent), own, ConvChain(*stages))  # type: ignore[arg-type]
        with graph.graph.inserting_before(end.last):
            chained = graph.graph.call_module(name, (first.source, *([] if end.other is None else [end.other])))
        shapes[chained.name] = shapes[end.last.name]
        end.last.replace_all_uses_with(chained)
        erase(graph, end.last, first.first)
    return cleaned(graph)


def together(graph: fx.GraphModule) -> fx.GraphModule:
    """Make one call of the chains between which nothing else is computed. Changes ``graph`` in place."""
    run: list[fx.Node] = []
    for node in list(graph.graph.nodes):
        if layer(graph, node, ConvChain) is not None:
            run.append(node)
            continue
        if len(run) > 1:
            _join(graph, run)
        run = []
    return cleaned(graph)


def reads_any_layout(graph: fx.GraphModule) -> bool:
    """Whether the network's input need not be in channels_last: a chain that begins with a 3x3 convolution reads it."""
    pixels = next(node for node in graph.graph.nodes if node.op == "placeholder")
    user = only_user(pixels)
    first = layer(graph, user, ConvChain, ConvChains)
    return first is not None and first.reads_any_layout(user.args.index(pixels))  # type: ignore[union-attr]


def _join(graph: fx.GraphModule, run: list[fx.Node]) -> None:
    """Replace these calls of chains by one."""
    arguments = [a for node in run for a in node.args if isinstance(a, fx.Node)]
    inputs = [a for a in dict.fromkeys(arguments) if a not in run]
    place = {node: i for i, node in enumerate([*inputs, *run])}
    sources = [(place[node.args[0]], place[node.args[1]] if len(node.args) > 1 else -1) for node in run]  # type: ignore[index]
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
