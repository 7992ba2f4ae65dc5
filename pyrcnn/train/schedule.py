"""The optimizer's parameter groups, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ..errors import require
from .config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return Adam, AdamW or SGD over the trainable parameters, in groups by (in the backbone or not, decayed or not).

    Parameters with one dimension (biases, norms) are not decayed. Each group has its highest learning rate.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name.startswith("backbone."), parameter.ndim > 1].append(parameter)
    require(bool(groups), "model must have trainable parameters, got none")
    settings = []
    for (in_backbone, decayed), parameters in sorted(groups.items(), key=lambda item: item[0]):
        peak = config.learning_rate * (config.backbone_rate if in_backbone else 1.0)
        decay = config.weight_decay if decayed else 0.0
        settings.append({"params": parameters, "lr": peak, "weight_decay": decay})
    # one kernel for all parameters, which also keeps a GradScaler from waiting for the device
    fused = all(p.device.type in ("cpu", "cuda") for group in groups.values() for p in group)
    if config.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=config.learning_rate, momentum=config.momentum, fused=fused)
    adam = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return adam(settings, lr=config.learning_rate, eps=config.adam_epsilon, fused=fused)


def make_scheduler(optimizer: torch.optim.Optimizer, step: int, steps: int, config: TrainConfig) -> LambdaLR:
    """Return what sets the learning rates of all groups, from step number ``step`` of ``steps`` on."""
    return LambdaLR(optimizer, lambda s: rate(s, steps, config), last_epoch=step - 1)


def rate(step: int, steps: int, config: TrainConfig) -> float:
    """Return the learning rate of step ``step`` (from 0) of ``steps``, as a fraction of the highest.

    It rises linearly during the warmup, then falls by half a cosine to 0, or tenfold at each of ``milestones``. Beyond
    the last step it stays.
    """
    warmup = config.warmup * steps
    if step < warmup:
        begin = config.warmup_from or 1 / (warmup + 1)
        return begin + (1 - begin) * step / warmup
    if config.schedule == "steps":
        return 0.1 ** sum(step >= milestone * steps for milestone in config.milestones)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / (steps - warmup))))


class Average:
    """The exponential running average of a model's weights and floating-point buffers (Polyak averaging).

    The decay grows to its value over the first steps, as ``(1 + n) / (10 + n)``, so that the initial weights are
    forgotten soon. torch's ``AveragedModel`` would copy its counter to the device in each update, and the host would
    wait for that.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in _floating(model)}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Add the weights after ``step`` steps to the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = dict(_floating(model))
        torch._foreach_lerp_(list(self.values.values()), [current[n].detach() for n in self.values], 1 - decay)

    def swap(self, model: nn.Module) -> None:
        """Exchange the model's values with the averages; a second call restores both."""
        for name, value in _floating(model):
            value.data, self.values[name] = self.values[name], value.data


def _floating(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    values = model.state_dict(keep_vars=True)
    return [(name, value) for name, value in values.items() if value.is_floating_point()]
