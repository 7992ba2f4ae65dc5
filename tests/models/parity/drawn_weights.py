"""Weights for comparing a detector with another library's: drawn by a rule from names and shapes, so none are stored.

Both libraries must see the same numbers, on other machines and in other years too: uniform numbers of numpy's frozen
MT19937 stream, seeded by the parameter's name in the other library. Only batch norms' statistics, which belong to the
activations, are stored beside the results.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

STATISTICS = ("running_mean", "running_var")


def uniform(name: str, shape: Iterable[int]) -> Tensor:
    """Numbers in [-1, 1) that depend on ``name`` and ``shape`` alone: float32."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    shape = tuple(shape)
    values = random.randint(-(2**15), 2**15, math.prod(shape), dtype=np.int16)
    return torch.from_numpy(values.reshape(shape)).float() / 2**15


def drawn(name: str, like: Tensor, gains: Mapping[str, float], norms: set[str]) -> Tensor:
    """The parameter ``name``, of ``like``'s shape.

    Kernels keep the second moment of what they are applied to after a ReLU, batch norms (the layers ``norms``) scale by
    0.8 to 1.2; both times the gain of the first entry of ``gains`` whose text is part of the name. Batch norms shift by
    up to 0.2, other biases are up to 0.1.
    """
    values = uniform(name, like.shape)
    layer, _, field = name.rpartition(".")
    if field == "bias":
        return (0.2 if layer in norms else 0.1) * values
    gain = next((gain for text, gain in gains.items() if text in name), 1.0)
    if layer in norms:
        return gain * (1 + 0.2 * values)
    return values * (gain * math.sqrt(6 / like[0].numel()))  # a uniform number's variance is 1/3


def draw(
    state: Mapping[str, Tensor],
    statistics: Mapping[str, np.ndarray],
    gains: Mapping[str, float],
    biases: Mapping[str, Mapping[int, float]],
) -> dict[str, Tensor]:
    """Numbers for every entry of ``state`` (names and shapes of a state dict, on any device).

    ``statistics``: the batch norms' running means and variances by name; those that it lacks are 0 and 1. ``biases``:
    what to add to a parameter's elements.
    """
    norms = {name.removesuffix(".running_var") for name in state if name.endswith(".running_var")}
    found = {}
    for name, like in state.items():
        field = name.rpartition(".")[2]
        if field == "num_batches_tracked":
            found[name] = torch.zeros_like(like, device="cpu")
        elif field in STATISTICS:
            plain = np.full(like.shape, float(field == "running_var"), np.float32)
            found[name] = torch.from_numpy(statistics.get(name, plain).astype(np.float32))
        else:
            found[name] = drawn(name, like, gains, norms)
            for index, value in biases.get(name, {}).items():
                found[name][index] += value
    return found
