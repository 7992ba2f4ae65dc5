"""Torch with pyrcnn's own kernels: weights reordered for oneDNN, Winograd's algorithm, chains of convolutions.

On CUDA, and where oneDNN has no kernels for the dtype, the layers are torch's own.
"""

from __future__ import annotations

import torch
from torch import fx, nn

from ...machine import machine
from ..base import Engine
from .chains import reads_any_layout
from .pack import Allowed, pack_


class Native(Engine):
    """Networks as torch modules."""

    name = "native"

    def build(self, graph: fx.GraphModule, example: tuple[int, ...]) -> nn.Module:
        """``graph``; on CPUs its layers are replaced by faster ones."""
        o = self.options
        if o.fuse and o.device.type == "cpu" and o.dtype in machine().packed:
            allowed = Allowed(o.winograd, o.chain) if o.channels_last else Allowed()
            pack_(graph, example, o.dtype, allowed)
            if reads_any_layout(graph):  # only the network that reads the pixels can
                self.pixels_layout = torch.contiguous_format
        return graph
