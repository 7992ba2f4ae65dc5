"""Convolutions and linear layers as oneDNN likes them on the CPU: weights laid out once, additions and ReLUs inside."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..models.layers import pad_same
from .chain import chain, together
from .fold import cleaned, erase, layer, only_user
from .stages import LIMITS, NONE, Activation, activation, sum_with
from .tile_conv import TileConv2d, fastest
from .tile_conv import suits as suits_tiles
from .winograd import WinogradConv2d, suits


def available(dtype: torch.dtype) -> bool:
    """Whether this CPU has oneDNN kernels for ``dtype``."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if dtype == torch.float16:
        return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return dtype == torch.float32


class PackedConv2d(nn.Module):
    """A convolution of ``x`` [N, C, H, W], plus ``other`` of the result's shape where given, then the activation."""

    def __init__(self, conv: nn.Conv2d, activation: Activation, size: Sequence[int]):
        super().__init__()
        self.padding, self.stride, self.dilation = list(conv.padding), list(conv.stride), list(conv.dilation)
        self.groups = conv.groups
        self.activation, self.numbers = activation
        weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        # The layout suits inputs of this size best and serves all. No parameters: they are not to be moved or saved.
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, self.padding, self.stride, self.dilation, self.groups, list(size)
        )
        self.bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """[N, C, H, W] → [N, outputs, H / stride, W / stride]."""
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


class Allowed(NamedTuple):
    """What a convolution may be computed by besides oneDNN, where that is faster; feature maps are in channels_last."""

    winograd: bool = False  # 3x3 ones by fewer multiplications
    chain: bool = False  # several in a row tile by tile
    tiles: bool = False  # in bfloat16 by AMX


def _packed(module: Any, activation: Activation, sizes: Sequence[Sequence[int]], allowed: Allowed) -> nn.Module | None:
    """``module`` with what follows it, for inputs of about these ``sizes``; None: nothing here has a kernel for it."""
    if isinstance(module, nn.Conv2d) and allowed.winograd and suits(module, sizes[0]):
        return WinogradConv2d(module, *LIMITS[activation[0]])
    found: list[nn.Module] = []
    with suppress(RuntimeError):  # oneDNN has none
        found.append((PackedLinear if isinstance(module, nn.Linear) else PackedConv2d)(module, activation, sizes[0]))
    if isinstance(module, nn.Conv2d) and allowed.tiles and suits_tiles(module):
        found.append(TileConv2d(module, *LIMITS[activation[0]]))
    return fastest(found, *sizes) if found else None


class _Shapes(fx.Interpreter):
    """Runs the graph without numbers, keeping every result's shape."""

    def __init__(self, graph: fx.GraphModule):
        tensors = [*graph.parameters(), *graph.buffers()]
        # deepcopy takes what its memo holds: layers are copied, weights are not
        super().__init__(copy.deepcopy(graph, {id(t): _without_numbers(t) for t in tensors}))
        self.shapes: dict[str, list[int]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n.name] = list(result.shape)
        return result


def _without_numbers(t: Tensor) -> Tensor:
    empty = t.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(t, nn.Parameter) else empty


def _pad_inside(graph: fx.GraphModule) -> None:
    """Let depthwise 3x3 convolutions of stride 2 behind TensorFlow's padding pad by themselves: no copy of their input.

    On an even size (and every size inside a network is, if its input's sides are multiples of 32) that padding is one
    row and column at the end. 4x4 with a first row and column of zeros, padded by one on every side, is the same.
    """
    for node in graph.graph.nodes:
        conv = layer(graph, node, nn.Conv2d)
        if conv is None or conv.groups != conv.in_channels or (conv.kernel_size, conv.stride) != ((3, 3), (2, 2)):
            continue
        source = node.args[0]
        if source.op == "call_function" and source.target is pad_same:
            conv.weight = nn.Parameter(F.pad(conv.weight.detach(), (1, 0, 1, 0)), requires_grad=False)
            conv.kernel_size, conv.padding = (4, 4), (1, 1)
            node.args = source.args[:1]
    cleaned(graph)


def pack(graph: fx.GraphModule, size: Sequence[int], dtype: torch.dtype, allowed: Allowed) -> fx.GraphModule:
    """Replace convolutions and linear layers, with what follows them, by packed ones; ``size``: the input's shape.

    Changes ``graph`` in place. It still takes inputs of any size.
    """
    interpreter = _Shapes(graph)
    interpreter.run(torch.empty(*size, device="meta", dtype=dtype))
    shapes = interpreter.shapes
    if allowed.chain:
        graph = chain(graph, shapes)
    _pad_inside(graph)
    # In float32 MKL multiplies large matrices faster than oneDNN does (1000 x 12544 x 1024 by a quarter, measured)
    kinds = (nn.Conv2d,) if dtype == torch.float32 else (nn.Conv2d, nn.Linear)
    for node in list(graph.graph.nodes):
        module = layer(graph, node, *kinds)
        if module is None:
            continue
        if isinstance(module, nn.Conv2d) and (isinstance(module.padding, str) or module.padding_mode != "zeros"):
            continue
        last, arguments = node, [node.args[0]]
        total = sum_with(node, shapes) if isinstance(module, nn.Conv2d) else None
        if total is not None:
            last, arguments = total[0], [node.args[0], total[1]]
        found = activation(graph, only_user(last))
        if found is not None:
            last = only_user(last)  # type: ignore[assignment]
        packed = _packed(module, found or NONE, [shapes[a.name] for a in arguments], allowed)
        if packed is None:
            continue
        parent, _, name = str(node.target).rpartition(".")
        setattr(graph.get_submodule(parent), name, packed)
        with graph.graph.inserting_before(last):
            fused = graph.graph.call_module(str(node.target), tuple(arguments))
        shapes[fused.name] = shapes[last.name]
        last.replace_all_uses_with(fused)
        erase(graph, last, node)
    return together(cleaned(graph))
