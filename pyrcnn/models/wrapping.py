"""Finds the model inside the wrappers that ``torch`` puts around one, and the names that its entries have without."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Objective(nn.Module):
    """A wrapper whose losses take the place of the model's own: ``losses(images, targets)`` when it is called so."""

    def __init__(self, model: nn.Module, losses: Callable[[Any, Any], dict[str, Tensor]]):
        super().__init__()
        self.module, self.losses = model, losses

    def forward(self, images: Any, targets: Any = None) -> Any:
        """The losses; without ``targets``, what the model returns."""
        return self.module(images) if targets is None else self.losses(images, targets)


# Wrappers whose call gives the losses; those of others come from the model inside.
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel, Objective)
INNER = ("module", "_orig_mod")  # where DataParallel, DistributedDataParallel, AveragedModel; torch.compile keep it


_OF_WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:module|_\w+)\.")


def plain_name(name: str) -> str:
    """The name of an entry without the parts that wrappers add, wherever they are: ``module`` and private attributes.

    Example:
        >>> plain_name("module.backbone._orig_mod.stem.weight")
        'backbone.stem.weight'
    """
    return _OF_WRAPPERS.sub("", name)


def unwrap(model: nn.Module, keep: tuple[type[nn.Module], ...] = ()) -> nn.Module:
    """The model inside any number of wrappers, which has the configuration and the classes; or ``model`` itself.

    A wrapper has one submodule, named "module" (``nn.DataParallel``, ``nn.parallel.DistributedDataParallel``,
    ``torch.optim.swa_utils.AveragedModel``) or "_orig_mod" (``torch.compile``). The weights are shared, not copied.

    Args:
        model: any module.
        keep: the classes of wrappers that stay, with what is inside.

    Example:
        >>> import torch
        >>> from pyrcnn import models
        >>> model = models.build("centernet_mobilenet_v2_fpn_512", num_classes=2)
        >>> models.unwrap(torch.nn.DataParallel(model)) is model
        True
    """
    while isinstance(model, nn.Module) and not isinstance(model, keep):
        children = dict(model.named_children())
        if len(children) != 1 or not children.keys() <= set(INNER):
            break
        (model,) = children.values()
    return model
