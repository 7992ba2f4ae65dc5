"""Consecutive convolutions computed block by block, without writing the maps between them: MobileNet's blocks, heads.

:mod:`.find` finds them in a graph, :mod:`.layers` holds the layers that replace them, :mod:`.replace` replaces them.
"""

from .layers import ConvChain, ConvChains
from .replace import join_chains_, reads_any_layout, replace_by_chains_

__all__ = ["ConvChain", "ConvChains", "join_chains_", "reads_any_layout", "replace_by_chains_"]
