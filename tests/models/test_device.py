"""Inference never leaves the device: shown on ``meta``, which has no values to read and shares nothing with the CPU.

On such a device reading a value raises, so whatever passes here cannot make a GPU wait for the host; a tensor made on
the CPU on the way (a constant that would have to be copied over) is seen by its device.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyrcnn import models


class Devices(TorchDispatchMode):
    """Notes every operator that takes or gives a tensor elsewhere than on ``meta``."""

    def __init__(self) -> None:
        super().__init__()
        self.strangers: list[str] = []
        self.calls = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        self.calls += 1
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        if any(tensor.device.type != "meta" for tensor in tensors):
            self.strangers.append(str(operator))
        return out


@pytest.mark.parametrize("name", models.names())
def test_predict_padded_stays_on_the_device(name: str) -> None:
    with torch.device("meta"):
        model = models.build(name).eval()
        pixels, sizes = torch.empty(2, 3, 128, 256), torch.empty(2, 2, dtype=torch.int64)
    with Devices() as seen, torch.no_grad():
        found = model.predict_padded(pixels, sizes)
    assert seen.calls > 10
    assert seen.strangers == []
    assert all(value.device.type == "meta" for value in found if value is not None)


def test_what_would_wait_or_copy_is_seen() -> None:
    pixels = torch.empty(2, 3, 8, 8, device="meta")
    with pytest.raises(RuntimeError):
        float(pixels.sum())
    with Devices() as seen:
        pixels[:, torch.tensor([0, 2])]  # an index that lives on the CPU
    assert seen.strangers != []
