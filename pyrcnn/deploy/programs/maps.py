"""The networks of a detector alone, for runtimes whose users decode the maps themselves."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn


class Maps(nn.Module):
    """From preprocessed pixels to the maps that pyrcnn's operators turn into boxes, by name.

    ``networks``: the networks of a detector, by name. The first one reads the pixels, "proposals" each of its maps.
    """

    def __init__(self, networks: dict[str, fx.GraphModule], dtype: torch.dtype):
        super().__init__()
        self.first, self.dtype = next(iter(networks.values())), dtype
        self.proposals = networks.get("proposals")

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """CenterNet's maps, or Faster R-CNN's ``features0…``, ``objectness0…`` and ``deltas0…`` per level."""
        maps = self.first(pixels.to(self.dtype))
        if self.proposals is None:
            return {name: value.float() for name, value in maps.items()}
        logits, deltas = zip(*(self.proposals(x) for x in maps), strict=True)
        parts = {"features": maps, "objectness": logits, "deltas": deltas}
        return {f"{name}{level}": x.float() for name, levels in parts.items() for level, x in enumerate(levels)}
