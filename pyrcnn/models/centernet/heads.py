"""CenterNet's heads: at every cell class scores, box size, centre offset, and the joints of people."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers import Float32Conv2d, conv3x3, glorot_uniform

CLASS_BIAS = -2.19  # sigmoid(-2.19) = 0.1: most cells are background (Lin et al. 2017)

# COCO's joints: the deviations of their Gaussians as multiples of the box's
JOINT_DEVIATIONS = (
    0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.89, 0.89, 0.89, 0.89,
)  # fmt: skip


def joint_deviations(joints: int) -> tuple[float, ...]:
    """COCO's deviations for its 17 joints; their mean for every joint of another skeleton."""
    if joints == len(JOINT_DEVIATIONS):
        return JOINT_DEVIATIONS
    return (sum(JOINT_DEVIATIONS) / len(JOINT_DEVIATIONS),) * joints


def head_channels(num_classes: int, joints: int) -> dict[str, int]:
    """Head name → channels. Pairs are (height, width) or (y, x), in cells; per joint (y0, x0, y1, x1, …)."""
    channels = {"heatmap": num_classes, "size": 2, "offset": 2}
    if joints:
        channels |= {"keypoint_heatmap": joints, "keypoint_regression": 2 * joints, "keypoint_offset": 2 * joints}
    return channels


class Head(nn.Module):
    """3x3 convolution to ``width`` channels, ReLU, 1x1 convolution to the outputs in float32: ``conv``, ``out``."""

    def __init__(self, inputs: int, outputs: int, width: int, separable: bool, bias: float):
        super().__init__()
        self.conv = conv3x3(inputs, width, separable)
        self.out = Float32Conv2d(width, outputs, 1)
        glorot_uniform(self)
        nn.init.constant_(self.out.bias, bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → raw [N, outputs, H, W]; float32 for bfloat16 and float16 inputs."""
        return self.out(torch.relu(self.conv(x)))


class Heads(nn.ModuleDict):
    """All heads for each stack, each with its own weights: ``<name>.<stack>.{conv,out}``."""

    def __init__(self, stack_channels: list[int], num_classes: int, joints: int, width: int, separable: bool):
        super().__init__(
            {
                name: nn.ModuleList(
                    Head(inputs, outputs, width, separable, CLASS_BIAS if name.endswith("heatmap") else 0.0)
                    for inputs in stack_channels
                )
                for name, outputs in head_channels(num_classes, joints).items()
            }
        )

    def forward(self, features: list[Tensor], stack: int = -1) -> dict[str, Tensor]:
        """The raw maps of one stack, by default the last: name → [N, channels, H, W]."""
        return {name: head[stack](features[stack]) for name, head in self.items()}  # type: ignore[index]
