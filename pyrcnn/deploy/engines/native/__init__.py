"""Torch with pyrcnn's own kernels: weights reordered for oneDNN, Winograd's algorithm, chains of convolutions.

On CUDA, and where oneDNN has no kernels for the dtype, the layers are torch's own.
"""

from __future__ import annotations

import torch
from torch import fx, nn

from ....models.detector import Detector
from ...machine import machine
from ..base import Engine, Options
from .chains import reads_any_layout
from .pack import Allowed, pack_


class Native(Engine):
    """Networks as torch modules."""

    name = "native"

    @classmethod
    def fastest_dtype(cls, model: Detector, options: Options) -> torch.dtype:
        """float32 for networks with depthwise convolutions on a CPU, whose chains have no bfloat16 kernels.

        ``centernet_mobilenet_v2_fpn_512``, AMD Zen 4 with AVX512_BF16, two threads: 31 ms in float32, 38 in bfloat16.
        """
        chains = options.device.type == "cpu" and options.channels_last and options.fuse and options.chain
        depthwise = any(isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels for m in model.modules())
        return torch.float32 if chains and depthwise else options.dtype

    def build(self, graph: fx.GraphModule, example: tuple[int, ...]) -> nn.Module:
        """``graph``; on CPUs its layers are replaced by faster ones."""
        o = self.options
        if o.fuse and o.device.type == "cpu" and o.dtype in machine().packed:
            allowed = Allowed(o.winograd, o.chain) if o.channels_last else Allowed()
            pack_(graph, example, o.dtype, allowed)
            if reads_any_layout(graph):  # only the network that reads the pixels can
                self.pixels_layout = torch.contiguous_format
        return graph
