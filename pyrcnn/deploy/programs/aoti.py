"""AOTInductor's options: the instruction set that a package needs, and weights ordered for it."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import fx

from ..engines.native.chains import ConvChain
from ..engines.native.pack import Allowed, pack_
from ..engines.native.winograd import WinogradConv2d
from ..machine import machine

# pyrcnn's instruction sets → the level of x86-64 that the compiler may assume, and the bits of a vector
_LEVELS = {"default": ("x86-64", 1), "avx2": ("x86-64-v3", 256), "avx512": ("x86-64-v4", 512)}


def instruction_set(device: torch.device) -> str:
    """The instruction set for which packages are compiled here: that of pyrcnn's kernels; "" for CUDA.

    A package for CUDA is compiled for every x86-64 processor, because the processor only launches kernels.
    """
    return machine().kernels if device.type == "cpu" else ""


def use_own_convolutions(name: str, graph: fx.GraphModule, example: tuple[int, ...]) -> fx.GraphModule:
    """``graph`` with pyrcnn's convolutions in float32 where they are faster; Inductor compiles the others.

    The operators choose their kernels when they run, so the package needs no instruction set for them.
    """
    dtype = next((p.dtype for p in graph.parameters()), torch.float32)
    pack_(graph, example, dtype, Allowed(winograd=True, chain=True, reorder=False))
    for layer in graph.modules():  # packages hold arguments as JSON, which has no infinity
        if isinstance(layer, ConvChain):
            layer.chain = layer.chain._replace(limits=[_finite(x) for x in layer.chain.limits])
        elif isinstance(layer, WinogradConv2d):
            layer.low, layer.high = _finite(layer.low), _finite(layer.high)
    return graph


def _finite(limit: float) -> float:
    largest = torch.finfo(torch.float32).max
    return min(max(limit, -largest), largest)


def options(isa: str, metadata: dict[str, str]) -> dict[str, Any]:
    """Inductor's settings for a package that needs ``isa``."""
    settings: dict[str, Any] = {"aot_inductor.metadata": metadata, "freezing": bool(isa)}
    if platform.machine() == "x86_64":
        march, bits = _LEVELS[isa or "default"]
        if hasattr(torch._inductor.config.cpp, "march"):  # older versions compile for the processor at hand
            settings |= {"cpp.march": march, "cpp.simdlen": bits}
    return settings


@contextlib.contextmanager
def sizes_from_data() -> Iterator[None]:
    """Let Inductor order strides that depend on sizes which only the running program knows.

    It compares them by hints where it is given the environment of these sizes, which its callers in torch 2.13 forget.
    """
    from torch._inductor import ir
    from torch._inductor.virtualized import V

    order = ir.get_fill_order

    def with_hints(seq: Any, shape_env: Any = None) -> Any:
        return order(seq, V.graph.sizevars.shape_env if shape_env is None else shape_env)

    with mock.patch.object(ir, "get_fill_order", with_hints):
        yield
