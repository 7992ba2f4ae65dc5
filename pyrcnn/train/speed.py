"""What is fast on a device: the floating type and the memory format of training."""

from __future__ import annotations

import torch
from torch import nn

from ..deploy.machine import machine
from ..errors import require
from .config import TrainConfig


def precision_on(config: TrainConfig, device: torch.device) -> str:
    """``config.precision`` on ``device``; "auto" is bfloat16 where the hardware multiplies it, else float32.

    Raises:
        pyrcnn.InputError: for float16 on a CPU.
    """
    if config.precision != "auto":
        require(
            config.precision != "float16" or device.type == "cuda",
            f"precision must be 'float32', 'bfloat16' or 'auto' on {device.type}, got 'float16'",
        )
        return config.precision
    on_gpu = device.type == "cuda"
    native = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else machine().bfloat16
    return "bfloat16" if native else "float32"


def channels_last(config: TrainConfig, device: torch.device, model: nn.Module) -> bool:
    """Whether the model's weights, and with them its feature maps, have their channels last."""
    if config.channels_last != "auto":
        return bool(config.channels_last)
    if device.type == "cpu":
        return getattr(model, "CHANNELS_LAST_ON_CPU", False)
    return precision_on(config, device) != "float32"
