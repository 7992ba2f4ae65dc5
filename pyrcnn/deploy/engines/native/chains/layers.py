"""Layers that compute one chain of convolutions, or several chains in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..ops.conv_chain import NO_LIMITS, Chain, chain_weight, conv3x3_size, conv_chains
from .find import Link, Links


@dataclass
class _Conv3x3:
    """Stride and padding of a 3x3 convolution; ``stride`` 0: the convolution is 1x1 or missing."""

    stride: int = 0
    padding: int = 0
    pads_same: bool = False

    @staticmethod
    def of(link: Link | None) -> _Conv3x3:
        if link is None or link.conv.kernel_size != (3, 3):
            return _Conv3x3()
        return _Conv3x3(link.conv.stride[0], int(link.conv.padding[0]), link.pads_same)

    def at(self, size: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Padding (top, left, bottom, right) and result size (height, width) for a map of this ``size``."""
        if not self.stride:
            return (0, 0, 0, 0), size
        padding = [self.padding] * 4
        if self.pads_same:
            missing = [max((-(-n // self.stride) - 1) * self.stride + 3 - n, 0) for n in size]
            padding = [n // 2 for n in missing] + [n - n // 2 for n in missing]
        return padding, conv3x3_size(size, self.stride, padding)


class ConvChain(nn.Module):
    """The convolutions of ``links`` of ``x`` [N, C, H, W], plus ``other`` where given."""

    def __init__(self, links: Links):
        super().__init__()
        self.first, self.second = _Conv3x3.of(links.expand), _Conv3x3.of(links.depthwise)
        end = links.last or links.project
        channels = links.project.conv.in_channels, links.project.conv.out_channels, end.conv.out_channels
        in_order = (links.expand, links.depthwise, links.project, links.last)
        # Not parameters: they must not be moved, converted or saved.
        weights: Any = [link and chain_weight(link.conv.weight, link.conv.bias) for link in in_order]
        limits = [x for link in in_order for x in (link.limits if link else NO_LIMITS[:2])]
        expand, depthwise, project, last = weights
        self.chain = Chain(expand, depthwise, project, last, channels, limits=limits, up=end.up)

    def reads_any_layout(self, index: int) -> bool:
        """Whether input ``index`` may be NCHW in memory at no cost."""
        return index == 0 and self.first.stride > 0

    def at(self, size: Sequence[int], input: int = 0, other: int = -1) -> tuple[Chain, Sequence[int]]:
        """The operator's argument for an input of this ``size`` (height, width), and the size of its result.

        ``input`` and ``other`` are the indices of the maps that it reads and adds.
        """
        before, size = self.first.at(size)
        padding, size = self.second.at(size)
        chain = self.chain._replace(stride=max(self.second.stride, 1), padding=padding, input=input, other=other,
                                    window_stride=self.first.stride, window_padding=before)  # fmt: skip
        return chain, size

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """[N, C, H, W] → [N, outputs, H / stride, W / stride]."""
        if other is None:
            return conv_chains([x], [self.at(x.shape[2:])[0]])[0]
        return conv_chains([x, other], [self.at(x.shape[2:], other=1)[0]])[0]


class ConvChains(nn.Module):
    """Several chains in one call, which starts the threads once.

    ``sources``: per chain the indices of the maps that it reads and adds (-1: none). The inputs come first, then the
    results of the chains.
    """

    def __init__(self, chains: Sequence[ConvChain], sources: Sequence[tuple[int, int]]):
        super().__init__()
        self.chains = nn.ModuleList(chains)
        self.sources = tuple(sources)

    def reads_any_layout(self, index: int) -> bool:
        """Whether input ``index`` may be NCHW in memory at no cost."""
        pairs = zip(self.chains, self.sources, strict=True)
        readers = [(chain, sources.index(index)) for chain, sources in pairs if index in sources]
        return all(chain.reads_any_layout(place) for chain, place in readers)  # type: ignore[operator]

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Maps [N, C, H, W] → the chains' results."""
        sizes: list[Sequence[int]] = [x.shape[2:] for x in inputs]
        chains = []
        for module, (source, other) in zip(self.chains, self.sources, strict=True):
            chain, size = module.at(sizes[source], source, other)  # type: ignore[operator]
            chains.append(chain)
            sizes.append(size)
        return conv_chains(inputs, chains)

    def run_separately(self, *inputs: Tensor) -> list[Tensor]:
        """The same results by one call per chain, to measure each."""
        maps = list(inputs)
        for chain, (source, other) in zip(self.chains, self.sources, strict=True):
            maps.append(chain(maps[source]) if other < 0 else chain(maps[source], maps[other]))
        return maps[len(inputs) :]
