"""CenterNet (Zhou, Wang, Krähenbühl 2019): image → features → maps of centres, sizes, offsets, joints → objects."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import require
from ..backbones import BACKBONES
from ..backbones.necks import Deconvolutions, NoNeck, TopDown
from ..detector import Detector
from ..layers import float32, freeze_lower
from ..outputs import PaddedDetections, PaddedPoses
from ..preprocess import Resizing, fit_square
from ..training import Term, Truth
from .decode import decode
from .heads import Heads
from .targets import box_losses, box_targets, joint_losses, joint_targets, objects_of, valid_cells

STRIDE = 4  # of every CenterNet's output


@dataclass(frozen=True)
class CenterNetConfig:
    """Everything that defines a CenterNet: plain values only, so that a weights file can carry it.

    Example:
        >>> CenterNetConfig(num_classes=3, input_size=256).max_detections
        100
    """

    backbone: str = "mobilenet_v2"  # a name of BACKBONES
    num_classes: int = 90  # without background
    input_size: int = 512  # images are resized and padded to a square of this side
    normalization: str = "unit"  # a name of preprocess.NORMALIZATIONS
    max_detections: int = 100  # of an image
    joints: int = 0  # J, of a person's skeleton; 0: boxes only
    keypoint_class: int = 0  # the class that has joints
    clip_keypoints: bool = False  # move joints outside the image to its border with score 0
    keypoint_ranking: str = "distance"  # how candidates are chosen; see ops.match_keypoints
    keypoint_rescoring: bool = False  # multiply a person's score by the mean of the joints'
    neck: str = "fpn"  # "fpn", "deconv" or "none"
    neck_laterals: tuple[int, ...] = (64, 32, 24)  # fpn: channels before each 3x3 convolution, coarse to fine
    neck_widths: tuple[int, ...] = (32, 24, 24)  # channels after each step of the neck
    neck_momentum: float = 0.01  # of the neck's batch norms: the weight of a new batch in their statistics
    separable: bool = True  # depthwise + pointwise convolutions in neck and heads
    head_width: int = 256  # channels between the two convolutions of a head
    padding: str = "same"  # mobilenet_v2: "same" (TF) or "symmetric" (torchvision's weights)
    stem: int = 128  # hourglass104: width of the first convolution
    dims: tuple[int, ...] = (256, 256, 384, 384, 384, 512)  # hourglass104: widths of the nested levels
    norm_eps: float = 1e-3  # of the backbone's batch norms
    norm_momentum: float = 0.0003  # of the backbone's batch norms: the weight of a new batch in their statistics
    trainable_layers: int | None = None  # how many of the backbone's upper stages train; None: all


def make_backbone(config: CenterNetConfig) -> Any:
    """The backbone ``config.backbone``, with those fields of ``config`` that its constructor takes."""
    require(config.backbone in BACKBONES, f"backbone must be one of {', '.join(BACKBONES)}, got {config.backbone!r}")
    backbone = BACKBONES[config.backbone]
    taken = inspect.signature(backbone).parameters.keys() & {field.name for field in fields(config)}
    return backbone(**{name: getattr(config, name) for name in taken})


def make_neck(config: CenterNetConfig, channels: Sequence[int]) -> Any:
    """The neck ``config.neck`` for a backbone of these ``channels``."""
    require(config.neck in ("fpn", "deconv", "none"), f"neck must be fpn, deconv or none, got {config.neck!r}")
    if config.neck == "fpn":
        return TopDown(
            channels, config.neck_laterals, config.neck_widths, config.separable, norm_momentum=config.neck_momentum
        )
    if config.neck == "deconv":
        return Deconvolutions(channels, config.neck_widths, norm_momentum=config.neck_momentum)
    return NoNeck(channels)


class CenterNet(Detector):
    """CenterNet (Zhou et al. 2019): an object is a peak of a heat map; the peak's cell gives its box.

    Modules: ``backbone`` (list of maps), ``neck`` (one map of stride 4 per stack), ``head.<name>.<stack>``.

    Args:
        config: the configuration.

    Raises:
        pyrcnn.InputError: for values of the configuration that do not fit together.

    Example:
        >>> model = CenterNet(CenterNetConfig(num_classes=2, input_size=64)).eval()
        >>> len(model([torch.zeros(3, 48, 64, dtype=torch.uint8)]))
        1
    """

    config: CenterNetConfig
    PARTS: ClassVar[dict[str, tuple[str, ...]]] = {"maps": ("backbone", "neck", "head")}
    CHANNELS_LAST_ON_CPU = True

    def __init__(self, config: CenterNetConfig):
        super().__init__(config)
        self.backbone = make_backbone(config)
        self._size_multiple = self.backbone.size_multiple
        fits = config.input_size > 0 and config.input_size % self._size_multiple == 0
        require(fits, f"input_size must be a multiple of {self._size_multiple}, got {config.input_size}")
        self.neck = make_neck(config, self.backbone.channels)
        self.head = Heads(self.neck.channels, config.num_classes, config.joints, config.head_width, config.separable)
        freeze_lower(self.backbone.stages, config.trainable_layers)

    def input_size(self) -> tuple[int, int]:
        """The configuration's ``input_size``, twice."""
        return self.config.input_size, self.config.input_size

    def size_multiple(self) -> int:
        """The backbone's: 32, and 128 for Hourglass-104."""
        return self._size_multiple

    def class_outputs(self) -> dict[str, tuple[int, int]]:
        """The heat maps."""
        return {f"head.heatmap.{stack}.out": (0, 1) for stack in range(len(self.neck.channels))}

    def example_shapes(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """One image."""
        return {"maps": (1, 3, height, width)}

    def padded_size(self, images: Sequence[Tensor]) -> tuple[int, int]:
        """:meth:`input_size`, whatever the images."""
        return self.input_size()

    def resizing(self) -> Resizing:
        """Into a square."""
        size = self.config.input_size
        return Resizing("square", size, size, 1, self.config.normalization)

    def resize_and_batch(
        self, images: list[Tensor], dtype: torch.dtype, size: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Images [3, H, W] → network input [N, 3, S, S]; see :meth:`preprocess`."""
        return fit_square(images, self.config.input_size, self.config.normalization, dtype)

    def heads(self, pixels: Tensor) -> dict[str, Tensor]:
        """Normalised pixels [N, 3, H, W] → raw maps [N, channels, H/4, W/4] of the last stack, by name."""
        return self.head(self.neck(self.backbone(pixels)))

    def predict_padded(self, pixels: Tensor, sizes: Tensor) -> PaddedDetections | PaddedPoses:
        """Detections of fixed shapes, in pixels of the network input.

        This part compiles, exports and is captured as one CUDA graph, because the host never waits for the device.
        ``pixels`` [N, 3, H, W] are normalised, their sides multiples of :meth:`size_multiple`; ``sizes`` [N, 2] are
        (h, w) of the unpadded images.
        """
        maps = {name: float32(value) for name, value in self.heads(pixels).items()}
        config = self.config
        return decode(
            maps,
            sizes,
            STRIDE,
            config.max_detections,
            person=config.keypoint_class,
            clip=config.clip_keypoints,
            ranking=config.keypoint_ranking,
            rescored=config.keypoint_rescoring,
        )

    def loss_terms(self, pixels: Tensor, sizes: Tensor, scales: Tensor, truth: Truth) -> dict[str, Term]:
        """The losses, averaged over the stacks; see :meth:`Detector.loss_terms`."""
        self.check_trainable()
        config = self.config
        objects = objects_of(truth, scales, STRIDE)
        features = self.neck(self.backbone(pixels))
        height, width = features[0].shape[-2:]
        boxes = box_targets(objects, config.num_classes, height, width)
        joints = joint_targets(objects, config.keypoint_class, height, width) if config.joints else None
        valid = valid_cells(sizes, height, width, STRIDE)
        terms: dict[str, Term] = {}
        for stack in range(len(features)):
            maps = {name: float32(value) for name, value in self.head(features, stack).items()}
            losses = box_losses(maps, boxes, valid)
            if joints is not None:
                losses |= joint_losses(maps, joints, valid)
            for name, (total, count) in losses.items():
                before = terms[name].total if name in terms else 0.0
                terms[name] = Term(before + total / len(features), count)
        return terms
