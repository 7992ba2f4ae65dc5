"""FrozenBatchNorm2d with torchvision's name, arguments, buffer names and results."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch normalization of [N, C, H, W] with statistics and affine parameters that never change.

    They are buffers. The state of an ``nn.BatchNorm2d`` loads too.

    Args:
        num_features: C.
        eps: added to the variance.

    Example:
        >>> FrozenBatchNorm2d(8)(torch.ones(1, 8, 4, 4)).shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight: Tensor
        self.bias: Tensor
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized feature map [N, C, H, W]."""
        if x.ndim == 4 and x.dtype == self.weight.dtype:  # one pass instead of nine operators
            statistics = self.running_mean, self.running_var
            # not F.batch_norm, which refuses eps=0 in torch 2.10; torchvision's published weights have eps=0
            return torch.batch_norm(
                x, self.weight, self.bias, *statistics, False, 0.0, self.eps, torch.backends.cudnn.enabled
            )
        scale = self.weight * (self.running_var + self.eps).rsqrt()  # [C]
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.weight.shape[0]}, eps={self.eps})"
