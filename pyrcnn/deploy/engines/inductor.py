"""``torch.compile``: each network compiled for each shape of its input."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, fx, nn

from .base import Engine

MAX_SHAPES = 40  # per network: eight input sizes of a network that runs on five pyramid levels


class CompiledPerShape(nn.Module):
    """``graph`` compiled when an input shape first comes; after :data:`MAX_SHAPES` others run uncompiled."""

    def __init__(self, graph: fx.GraphModule, options: dict[str, Any] | None):
        super().__init__()
        self.graph, self.options = graph, options
        self.compiled: dict[Any, Any] = {}
        self.lock = threading.Lock()

    def forward(self, x: Tensor) -> Any:
        """What ``graph`` returns."""
        key = x.shape, x.stride(), x.dtype
        with self.lock:
            if key not in self.compiled:
                if len(self.compiled) == MAX_SHAPES:
                    return self.graph(x)
                # The copy shares the layers, but has code of its own: torch.compile limits shapes per piece of code.
                copy = fx.GraphModule(self.graph, self.graph.graph)
                self.compiled[key] = torch.compile(copy, dynamic=False, options=self.options)
        return self.compiled[key](x)


class Inductor(Engine):
    """Networks compiled by ``torch.compile``."""

    name = "inductor"

    def build(self, graph: fx.GraphModule, example: tuple[int, ...]) -> nn.Module:
        """``graph``, compiled during the first call for a shape, which takes up to a minute."""
        return CompiledPerShape(graph, {"freezing": True} if self.options.device.type == "cpu" else None)
