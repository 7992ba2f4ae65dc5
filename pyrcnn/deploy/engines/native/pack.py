"""Convolutions and linear layers by oneDNN: weights reordered once, sums and activations inside the layers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ....models.layers import pad_same
from ...fx_graph import erase_nodes_, get_layer, only_user, remove_unused_, result_shapes, set_layer_
from .chains import join_chains_, replace_by_chains_
from .fusion import LIMITS, NONE, Activation, find_activation, find_sum
from .winograd import WinogradConv2d, is_winograd_faster


class Allowed(NamedTuple):
    """The algorithms that a network may use where they are faster.

    Winograd's and chains need channels_last. ``reorder``: oneDNN with reordered weights, which cannot be exported.
    """

    winograd: bool = False
    chain: bool = False
    reorder: bool = True


class PackedConv2d(nn.Module):
    """A convolution of ``x`` [N, C, H, W], plus ``other`` of the result's shape where given, then the activation."""

    def __init__(self, conv: nn.Conv2d, activation: Activation, size: Sequence[int]):
        super().__init__()
        self.padding, self.stride, self.dilation = list(conv.padding), list(conv.stride), list(conv.dilation)
        self.groups = conv.groups
        self.activation, self.numbers = activation
        self.dtype = conv.weight.dtype  # float32 where a network of lower precision ends
        weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        # Fastest for inputs of this size, right for all. Not a parameter: it must not be moved, converted or saved.
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, self.padding, self.stride, self.dilation, self.groups, list(size)
        )
        self.bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """[N, C, H, W] → [N, outputs, H / stride, W / stride]."""
        x = x.to(self.dtype)
        if other is None:
            return self._convolve(x, (self.activation, self.numbers))
        if other.shape[2] == other.shape[3] == 1:  # torch 2.10 cannot add maps of one pixel
            return self._convolve(x, NONE).add_(other).clamp_(*LIMITS[self.activation])
        activation = None if self.activation == "none" else self.activation
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, other, self.weight, self.bias, *self._shape(), "add", 1.0, activation, self.numbers, ""
        )

    def _shape(self) -> tuple[Any, ...]:
        return self.padding, self.stride, self.dilation, self.groups

    def _convolve(self, x: Tensor, activation: Activation) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self._shape(), *activation, "")


class PackedLinear(nn.Module):
    """A linear layer of ``x`` [K, C], then the activation."""

    def __init__(self, linear: nn.Linear, activation: Activation, size: Sequence[int]):
        super().__init__()
        self.activation, self.numbers = activation
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), size[0])
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """[K, inputs] → [K, outputs]."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, self.numbers, "")


def _can_pack(layer: Any) -> bool:
    if isinstance(layer, nn.Conv2d):
        return not isinstance(layer.padding, str) and layer.padding_mode == "zeros"
    # In float32 MKL multiplies large matrices faster than oneDNN (1000 x 12544 x 1024 by a quarter, measured).
    return isinstance(layer, nn.Linear) and layer.weight.dtype != torch.float32


def _make(layer: Any, activation: Activation, size: Sequence[int], allowed: Allowed) -> nn.Module | None:
    """The replacement of ``layer`` for inputs of about this ``size``, or None."""
    if isinstance(layer, nn.Conv2d) and allowed.winograd and is_winograd_faster(layer, size):
        return WinogradConv2d(layer, *LIMITS[activation[0]])
    if not allowed.reorder:
        return None
    with suppress(RuntimeError):  # oneDNN has no kernel for this layer
        return (PackedLinear if isinstance(layer, nn.Linear) else PackedConv2d)(layer, activation, size)
    return None


def _pad_inside_(graph: fx.GraphModule) -> None:
    """Let depthwise 3x3 convolutions of stride 2 that follow TensorFlow's padding pad by themselves, without a copy.

    For an even size that padding is one row and one column at the end. A 4x4 kernel whose first row and column are
    zeros, padded by one on every side, computes the same. Sizes inside a network are even if its input's are multiples
    of 32.
    """
    for node in graph.graph.nodes:
        conv = get_layer(graph, node, nn.Conv2d)
        if conv is None or conv.groups != conv.in_channels or (conv.kernel_size, conv.stride) != ((3, 3), (2, 2)):
            continue
        source = node.args[0]
        if source.op == "call_function" and source.target is pad_same:
            conv.weight = nn.Parameter(F.pad(conv.weight.detach(), (1, 0, 1, 0)), requires_grad=False)
            conv.kernel_size, conv.padding = (4, 4), (1, 1)
            node.args = source.args[:1]
    remove_unused_(graph)


def pack_(graph: fx.GraphModule, size: Sequence[int], dtype: torch.dtype, allowed: Allowed) -> None:
    """Replace convolutions and linear layers, with the sums and activations after them, by faster layers.

    ``size``: shape of a typical input, of this ``dtype``. The graph still takes inputs of any size.
    """
    shapes = result_shapes(graph, size, dtype)
    if allowed.chain:
        replace_by_chains_(graph, shapes)
    _pad_inside_(graph)
    for node in list(graph.graph.nodes):
        layer = get_layer(graph, node, nn.Conv2d, nn.Linear)
        if not _can_pack(layer):
            continue
        last, arguments = node, [node.args[0]]
        total = find_sum(node, shapes) if isinstance(layer, nn.Conv2d) else None
        if total is not None:
            last, arguments = total[0], [node.args[0], total[1]]
        activation = find_activation(graph, only_user(last))
        if activation is not None:
            last = only_user(last)  # type: ignore[assignment]
        packed = _make(layer, activation or NONE, shapes[arguments[0].name], allowed)
        if packed is None:
            continue
        set_layer_(graph, str(node.target), packed)
        with graph.graph.inserting_before(last):
            fused = graph.graph.call_module(str(node.target), tuple(arguments))
        shapes[fused.name] = shapes[last.name]
        last.replace_all_uses_with(fused)
        erase_nodes_(graph, last, node)
    join_chains_(graph)
