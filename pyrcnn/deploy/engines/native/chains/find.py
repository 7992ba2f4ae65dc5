"""Finds convolutions that can be computed as one chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from .....models.layers import pad_same, upsample_nearest
from ....fx_graph import get_layer, only_user
from ..fusion import LIMITS, NONE, Activation, find_activation, find_sum

MAX_INPUT_CHANNELS = 4  # of a 3x3 convolution in a chain; with more, Winograd's algorithm and oneDNN are faster

Kind = Callable[[nn.Conv2d], bool]


@dataclass
class Link:
    """One convolution of a chain, with the padding before it, the sum and the activation after it."""

    conv: nn.Conv2d
    first: fx.Node  # the convolution
    last: fx.Node  # the node that returns the link's result
    activation: Activation
    other: fx.Node | None = None  # added before the activation
    up: int = 1  # 2: ``other`` has half the height and width, and each of its pixels is added to four
    pads_same: bool = False  # TensorFlow's padding comes first

    @property
    def limits(self) -> tuple[float, float]:
        """The range that the result is clamped to."""
        return LIMITS[self.activation[0]]

    @property
    def source(self) -> Any:
        """The link's input, before padding."""
        source: Any = self.first.args[0]
        return source.args[0] if self.pads_same else source


@dataclass
class Links:
    """The links of one chain, in the order in which they are computed. All but ``project`` may be missing."""

    expand: Link | None  # 1x1, or 3x3 with few input channels
    depthwise: Link | None  # 3x3
    project: Link  # 1x1
    last: Link | None = None  # 1x1

    def present(self) -> list[Link]:
        """Those that are not None."""
        return [link for link in (self.expand, self.depthwise, self.project, self.last) if link is not None]


def is_pointwise(conv: nn.Conv2d) -> bool:
    """Whether ``conv`` is a plain 1x1 convolution."""
    return (conv.kernel_size, conv.stride, conv.padding, conv.groups) == ((1, 1), (1, 1), (0, 0), 1)


def _is_3x3(conv: nn.Conv2d) -> bool:
    plain = (conv.kernel_size, conv.dilation, conv.padding_mode) == ((3, 3), (1, 1), "zeros")
    return plain and conv.stride in {(1, 1), (2, 2)} and conv.padding in {(0, 0), (1, 1), (2, 2)}


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether ``conv`` is a 3x3 convolution of each channel by itself."""
    return _is_3x3(conv) and conv.groups == conv.in_channels == conv.out_channels


def _reads_image(conv: nn.Conv2d) -> bool:
    """Whether ``conv`` is a 3x3 convolution with as few input channels as an image has."""
    return _is_3x3(conv) and conv.groups == 1 and conv.in_channels <= MAX_INPUT_CHANNELS


class ChainFinder:
    """Finds the chains of a graph; ``shapes``: of its nodes' results."""

    def __init__(self, graph: fx.GraphModule, shapes: dict[str, list[int]]):
        self.graph, self.shapes = graph, shapes

    def find(self, node: fx.Node) -> Links | None:
        """The chain that ``node`` belongs to, or None.

        ``node`` is the depthwise convolution of the chain; in a chain without one the first of two 1x1 convolutions,
        or a single 1x1 convolution whose result is added to an upsampled map.
        """
        depthwise = self._link(node, is_depthwise)
        return self._without_depthwise(node) if depthwise is None else self._around(depthwise)

    def _without_depthwise(self, node: fx.Node) -> Links | None:
        first = self._link(node, is_pointwise)
        if first is None or self._precedes_depthwise(first):
            return None
        lateral = self._with_sum(first)
        if lateral.up > 1:
            return Links(None, None, lateral)
        second = self._next(first, is_pointwise)
        if second is None or self._precedes_depthwise(second):
            return None
        return Links(first, None, self._with_sum(second))

    def _around(self, depthwise: Link) -> Links | None:
        project = self._next(depthwise, is_pointwise)
        if project is None:
            return None
        expand = self._previous(depthwise)
        if self._precedes_depthwise(project):  # the next chain adds to its own result
            return Links(expand, depthwise, project)
        last = None if expand else self._next(project, is_pointwise)
        if last is not None and not self._precedes_depthwise(last):
            return Links(None, depthwise, project, self._with_sum(last))
        return Links(expand, depthwise, self._with_sum(project))

    def _link(self, node: Any, kind: Kind) -> Link | None:
        """The convolution of this kind at ``node``, with TensorFlow's padding before it and its activation."""
        conv = get_layer(self.graph, node, nn.Conv2d)
        if conv is None or not kind(conv):
            return None
        last, activation = self._activated(node)
        source = node.args[0]
        pads = isinstance(source, fx.Node) and source.target is pad_same and only_user(source) is node
        pads = pads and conv.padding == (0, 0) and source.args[1:] == (3, conv.stride[0])
        return Link(conv, node, last, activation, pads_same=pads)

    def _activated(self, node: fx.Node) -> tuple[fx.Node, Activation]:
        """The activation that follows ``node``, and the node that returns its result: ``node`` if there is none."""
        user = only_user(node)
        activation = find_activation(self.graph, user)
        return (node, NONE) if user is None or activation is None else (user, activation)

    def _next(self, link: Link, kind: Kind) -> Link | None:
        """The convolution of this kind that is the only user of the result of ``link``."""
        return self._link(only_user(link.last), kind)

    def _previous(self, depthwise: Link) -> Link | None:
        """The convolution whose result only ``depthwise`` uses, if it is 1x1 or reads an image."""
        value = depthwise.source
        user = depthwise.first.args[0] if depthwise.pads_same else depthwise.first
        if not isinstance(value, fx.Node) or only_user(value) is not user:
            return None
        for node in (value, value.args[0] if value.args else None):  # with and without an activation
            found = self._link(node, lambda conv: is_pointwise(conv) or _reads_image(conv))
            if found is not None and found.last is value:
                return found
        return None

    def _precedes_depthwise(self, link: Link) -> bool:
        """Whether a depthwise convolution follows ``link``, which then belongs to that convolution's chain."""
        user = only_user(link.last)
        if user is not None and user.target is pad_same:
            user = only_user(user)
        return self._link(user, is_depthwise) is not None

    def _with_sum(self, link: Link) -> Link:
        """``link`` with the map that is added to its result.

        A map that is upsampled for this sum alone is taken before upsampling.
        """
        total = find_sum(link.first, self.shapes) if link.last is link.first else None
        if total is None:
            return link
        node, other = total
        up = 1
        if other.target is upsample_nearest and only_user(other) is node:
            other, up = other.args[0], 2  # type: ignore[assignment]
        last, activation = self._activated(node)
        return replace(link, last=last, activation=activation, other=other, up=up)
