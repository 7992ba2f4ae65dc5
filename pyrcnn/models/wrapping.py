"""Finds the model inside the wrappers that ``torch`` puts around one."""

from __future__ import annotations

from torch import nn

INNER = ("module", "_orig_mod")  # where DataParallel, DistributedDataParallel, AveragedModel; torch.compile keep it


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside any number of wrappers, which has the configuration and the classes; or ``model`` itself.

    A wrapper has one submodule, named "module" (``nn.DataParallel``, ``nn.parallel.DistributedDataParallel``,
    ``torch.optim.swa_utils.AveragedModel``) or "_orig_mod" (``torch.compile``). The weights are shared, not copied.

    Example:
        >>> import torch
        >>> from pyrcnn import models
        >>> model = models.build("centernet_mobilenet_v2_fpn_512", num_classes=2)
        >>> models.unwrap(torch.nn.DataParallel(model)) is model
        True
    """
    while isinstance(model, nn.Module):
        children = dict(model.named_children())
        if len(children) != 1 or not children.keys() <= set(INNER):
            break
        (model,) = children.values()
    return model
