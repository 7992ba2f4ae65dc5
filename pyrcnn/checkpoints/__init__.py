"""Weights from and to files: ``save`` writes our own format, ``load`` reads every format in ``READERS``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import InputError
from . import native, tensorflow
from .imagenet import load_backbone
from .native import save
from .report import Report, assign

# One module per source: ``matches(source)`` tells whether it is one of theirs, ``read(model, source)`` gives its
# tensors under the model's names. The first that matches reads.
READERS = (native, tensorflow)


def load(model: nn.Module, source: Any, *, new_heads: bool = False) -> Report:
    """Put the weights of ``source`` into ``model`` and report what was used, missing, unexpected, reshaped.

    ``source`` is recognised by its name and content (see ``READERS``). ``new_heads`` keeps fresh heads where
    the source has another class count; otherwise that is an error, as is anything else that is missing: it is named,
    and the model stays as it was.
    """
    for reader in READERS:
        if reader.matches(source):
            name = f"the given dict of {len(source)} arrays" if isinstance(source, Mapping) else str(source)
            return assign(model, reader.read(model, source), name, new_heads=new_heads)
    raise InputError(f"source is of no known format: {source}")


__all__ = ["READERS", "Report", "load", "load_backbone", "save"]
