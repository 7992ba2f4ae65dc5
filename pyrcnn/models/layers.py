"""Layers and functions that several backbones and heads share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import require

Norm = Callable[[int], nn.Module]


def batch_norm(eps: float = 1e-5, momentum: float = 0.1) -> Norm:
    """A constructor of batch norms; ``momentum`` is torch's (1 - Keras')."""
    return partial(nn.BatchNorm2d, eps=eps, momentum=momentum)


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """``x`` with TensorFlow's 'SAME' padding: zeros around it, an odd one at the bottom and right.

    A 3x3 convolution of stride 2 on an even size gets 0 before and 1 after; torch's padding=1 would be 1 and 1.
    """
    height, width = x.shape[-2:]
    short_y = max((-(-height // stride) - 1) * stride + kernel - height, 0)
    short_x = max((-(-width // stride) - 1) * stride + kernel - width, 0)
    return F.pad(x, (short_x // 2, short_x - short_x // 2, short_y // 2, short_y - short_y // 2))


def upsample_nearest(x: Tensor) -> Tensor:
    """[N, C, H, W] → [N, C, 2H, 2W]: each value is repeated."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def max_pool_zero_padded(x: Tensor) -> Tensor:
    """3x3 maximum of stride 2 over a border of zeros, as Keras pads; torch's own border is -inf."""
    return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), kernel_size=3, stride=2)


class ConvNorm(nn.Module):
    """Convolution, then an optional norm and activation: ``conv``, ``norm``, ``act``.

    ``padding`` is "symmetric" (kernel // 2 on every side) or "same" (:func:`pad_same`).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        bias: bool = False,
        norm: Norm | None = nn.BatchNorm2d,
        act: Callable[[], nn.Module] | None = nn.ReLU,
        padding: str = "symmetric",
    ):
        super().__init__()
        self.same = padding == "same" and stride > 1
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding=0 if self.same else kernel // 2, groups=groups, bias=bias
        )
        self.norm = nn.Identity() if norm is None else norm(outputs)
        self.act = nn.Identity() if act is None else act()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H / stride, W / stride]."""
        if self.same:
            x = pad_same(x, self.conv.kernel_size[0], self.conv.stride[0])
        return self.act(self.norm(self.conv(x)))


class SeparableConv2d(nn.Module):
    """3x3 depthwise convolution without bias, then 1x1 with bias: ``depthwise``, ``pointwise`` (Chollet 2017)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H, W]."""
        return self.pointwise(self.depthwise(x))


def conv3x3(inputs: int, outputs: int, separable: bool = False) -> nn.Module:
    """A 3x3 convolution with bias that keeps the size, plain or separable."""
    return SeparableConv2d(inputs, outputs) if separable else nn.Conv2d(inputs, outputs, 3, padding=1)


def glorot_uniform(module: nn.Module) -> None:
    """Keras' default initialisation of every convolution below ``module``: Glorot uniform kernels, zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def he_normal(module: nn.Module) -> None:
    """Initialise every convolution below ``module`` with N(0, 2 / fan_out) and zero biases (He et al. 2015)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Float32Layer(nn.Module):
    """A layer that computes and returns float32 in a network of lower precision, float64 in one of float64.

    Its weights stay float32 when the network becomes bfloat16 or float16. A detector ends with such layers, because
    8 bits do not suffice for scores that rank boxes and for sizes in pixels. Tracers must treat it as a leaf: a graph
    that reads the weights by themselves loses the rule.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Float32Layer:
        def keep_float32(t: Tensor) -> Tensor:
            moved = fn(t)
            if moved.dtype in (torch.float16, torch.bfloat16):
                moved = torch.empty_like(moved, dtype=torch.float32).copy_(t)
            return moved

        return super()._apply(keep_float32, recurse)  # type: ignore[arg-type]


class Float32Conv2d(Float32Layer, nn.Conv2d):
    """A convolution whose result is float32 for a bfloat16 or float16 input."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, outputs, H / stride, W / stride]."""
        return super().forward(x.to(self.weight.dtype))


class Float32Linear(Float32Layer, nn.Linear):
    """A linear layer whose result is float32 for a bfloat16 or float16 input."""

    def forward(self, x: Tensor) -> Tensor:
        """[K, inputs] → [K, outputs]."""
        return super().forward(x.to(self.weight.dtype))


def freeze_lower(stages: Iterable[nn.Module], trainable: int | None) -> None:
    """Freeze all but the last ``trainable`` of ``stages`` (lowest first); None: all train."""
    stages = list(stages)
    if trainable is not None:
        require(0 <= trainable <= len(stages), f"trainable_layers must be 0 to {len(stages)}, got {trainable}")
        for stage in stages[: max(len(stages) - trainable, 0)]:
            stage.requires_grad_(False)


def float32(x: Tensor) -> Tensor:
    """``x`` in float32 if it is float16 or bfloat16, in which losses and boxes would be too coarse; else ``x``."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def rows(values: Tensor, indices: Tensor) -> Tensor:
    """``values`` [N, K, X] at ``indices`` [N, D]: [N, D, X]."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[-1]))
