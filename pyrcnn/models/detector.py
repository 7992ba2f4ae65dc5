"""What every detector shares: images in, detections or losses out, and the networks inside, which can be replaced."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ..errors import InputError, require
from ..memory import upload
from ..structures import Detections, Targets
from .labels import default_labels
from .layers import Float32Layer
from .outputs import PaddedDetections, PaddedPoses, trim
from .preprocess import Resizing, count_images, load_images
from .pretrained import Pretrained
from .training import Term, Truth, mean_losses, pad_truth

T = TypeVar("T", bound="Detector")


class Network(NamedTuple):
    """A part of a detector that maps one tensor to tensors, so that it can be traced, exported and compiled alone.

    Attributes:
        module: it belongs to the detector: copy it before you change it.
        example: the shape [N, C, H, W] of a typical input; other N, H and W are fine.
        float32: the names of the layers inside ``module`` that compute and return float32 whatever the dtype of the
            others (:class:`~pyrcnn.models.layers.Float32Layer`).

    Example:
        >>> from pyrcnn import models
        >>> list(models.build("faster_rcnn_mobilenet_v2_fpn").networks())
        ['backbone', 'proposals', 'regions']
    """

    module: nn.Module
    example: tuple[int, ...]
    float32: tuple[str, ...]


class _Replacement(nn.Module):
    """A callable in the place of a network."""

    def __init__(self, function: Callable[[Tensor], Any]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Detector(Pretrained, nn.Module, ABC):
    """Networks between :meth:`preprocess`, which makes their input, and operators that turn their output into boxes.

    The base class of both families. Call it as ``model(images)`` for a list of :class:`~pyrcnn.Detections`, or as
    ``model(images, targets)`` for a dict of losses.

    Attributes:
        config: the configuration.
        classes: the name of each label.
        category_ids: the id of each label in COCO's results.

    Raises:
        pyrcnn.InputError: when called, for invalid images and targets.

    Example:
        >>> from pyrcnn import models
        >>> isinstance(models.build("centernet_mobilenet_v2_fpn_512"), Detector)
        True
    """

    PARTS: ClassVar[dict[str, tuple[str, ...]]]
    """Network → the submodules that it calls one after another. Inference calls each network as a whole."""
    CHANNELS_LAST_ON_CPU: ClassVar[bool] = False
    """Whether a training step on a CPU is faster with the channels last."""

    def __init__(self, config: Any):
        super().__init__()
        count = config.num_classes
        require(isinstance(count, int) and count > 0, f"num_classes must be a positive integer, got {count!r}")
        self.config = config
        self.classes, self.category_ids = default_labels(config.num_classes)
        self.inference_only = False
        # False where augmentation sets the sizes of training images, so that a Faster R-CNN only pads them
        self.resizes_in_training = True

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self._like.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the network's input; layers named in :attr:`Network.float32` may differ."""
        return self._like.dtype

    @property
    def _like(self) -> Tensor:
        return self.get_buffer("network_input") if self.inference_only else next(self.parameters())

    # ---- use ---------------------------------------------------------------------------------------------------------

    def forward(self, images: Sequence[Any], targets: Sequence[Targets] | None = None) -> Any:
        """Images → list of :class:`Detections`; with ``targets`` → dict of losses, in training mode or not.

        ``images`` may be tensors [3, H, W] RGB of any sizes (uint8 0..255 or float 0..1), paths, PIL images or numpy
        arrays H x W x 3. ``targets``, one :class:`Targets` per image, are in pixels of the images as given. Invalid
        images and targets raise :class:`pyrcnn.InputError`.
        """
        return self.predict(images) if targets is None else self.loss(images, targets)

    def predict(self, images: Sequence[Any]) -> list[Detections]:
        """Detections in each image's own pixels."""
        if count_images(images) == 0:
            return []
        pixels, sizes, scales = self.preprocess(images)  # [N, 3, H, W], [N, 2], [N, 2]
        return trim(self.predict_padded(pixels, sizes), sizes, scales)

    def preprocess(self, images: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Images → normalised pixels [N, 3, H, W], sizes [N, 2] (h, w) in them, scales [N, 2] (y, x) new per old."""
        return self.resize_and_batch([image.to(self.device) for image in load_images(images)], self.dtype)

    def loss(self, images: Sequence[Any], targets: Sequence[Targets]) -> dict[str, Tensor]:
        """Named losses, already weighted: training minimises their sum."""
        require(count_images(images) > 0, "images must hold at least one image")
        require(len(images) == len(targets), f"targets must be one per image, got {len(targets)} for {len(images)}")
        for one in targets:
            require(isinstance(one, Targets), f"targets must hold pyrcnn.Targets, got {type(one).__name__}")
        return self.batch_loss(*self.preprocess(images), targets)

    @abstractmethod
    def padded_size(self, images: Sequence[Tensor]) -> tuple[int, int]:
        """Height and width of the smallest network input that holds these images [3, H, W]."""

    @abstractmethod
    def resize_and_batch(
        self, images: list[Tensor], dtype: torch.dtype, size: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Images [3, H, W] on the network's device → what :meth:`preprocess` returns.

        ``size`` (height, width) of the network input is at least :meth:`padded_size`, the default. Processes that share
        a batch pad their images to the same size.
        """

    @abstractmethod
    def resizing(self) -> Resizing:
        """How :meth:`resize_and_batch` resizes and normalises images in inference."""

    @abstractmethod
    def predict_padded(self, pixels: Tensor, sizes: Tensor) -> PaddedDetections | PaddedPoses:
        """Detections of fixed shapes in the pixels of the network input."""

    def batch_loss(
        self, pixels: Tensor, sizes: Tensor, scales: Tensor, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """:meth:`loss` of what :meth:`preprocess` returned."""
        truth = self.pad_targets(targets)
        return mean_losses(self.loss_terms(pixels, sizes, scales, Truth(*(upload(t, pixels.device) for t in truth))))

    def pad_targets(self, targets: Sequence[Targets], seeds: Tensor | None = None, multiple: int = 1) -> Truth:
        """The ground truth that :meth:`loss_terms` takes, on the host: :func:`~pyrcnn.models.training.pad_truth`."""
        return pad_truth(targets, self.config.num_classes, getattr(self.config, "joints", 0), seeds, multiple)

    @abstractmethod
    def loss_terms(self, pixels: Tensor, sizes: Tensor, scales: Tensor, truth: Truth) -> dict[str, Term]:
        """The losses as sums and counts, of fixed shapes and without host synchronization.

        ``pixels`` [N, 3, H, W], ``sizes`` [N, 2] and ``scales`` [N, 2] are from :meth:`preprocess`; ``truth`` is from
        :meth:`pad_targets`, on the device of the pixels.
        """

    @abstractmethod
    def class_outputs(self) -> dict[str, tuple[int, int]]:
        """The layers with outputs for each class: name → (outputs before those of class 0, outputs per class)."""

    def train(self: T, mode: bool = True) -> T:
        """As torch's; norms whose weights are frozen stay in eval mode, so that their statistics are frozen too.

        torchvision's detectors let these statistics change.
        """
        super().train(mode)
        for module in self.modules():
            norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
            if norm and module.affine and not module.weight.requires_grad:
                module.eval()
        return self

    # ---- the networks ------------------------------------------------------------------------------------------------

    @abstractmethod
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network input that the configuration leads to; where images decide, of a wide one."""

    @abstractmethod
    def size_multiple(self) -> int:
        """The number that must divide both sides of the network input."""

    @abstractmethod
    def example_shapes(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """Network → the shape of its input for one image, when the network input is ``height`` × ``width``."""

    def networks(self, size: tuple[int, int] | None = None) -> dict[str, Network]:
        """Everything with weights, by name: ``model.networks()["maps"].module(pixels)``.

        CenterNet has ``maps``: pixels → dict of raw maps. Faster R-CNN has ``backbone``: pixels → list of feature maps;
        ``proposals``: one feature map → (logits, deltas); ``regions``: pooled regions [K, C, S, S] → (class logits, box
        deltas). ``size`` (height, width) of the network input determines the example shapes; default:
        :meth:`input_size`.
        """
        require(not self.inference_only, "model must have its own networks, got one whose networks were replaced")
        found = {}
        for name, example in self.example_shapes(*(size or self.input_size())).items():
            modules = OrderedDict((path.rpartition(".")[2], self.get_submodule(path)) for path in self.PARTS[name])
            module = nn.Sequential(modules) if len(modules) > 1 else next(iter(modules.values()))
            exact = (path for path, layer in module.named_modules() if isinstance(layer, Float32Layer))
            found[name] = Network(module, example, tuple(exact))
        return found

    def with_networks(
        self,
        replacements: Mapping[str, Callable[[Tensor], Any]],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Detector:
        """A copy for inference whose networks are ``replacements``: callables with the networks' signatures.

        The copy is in eval mode and shares nothing with this model. It holds no weights of the replaced networks.
        Modules among the replacements become its submodules; networks that are not named are copied.

        Args:
            replacements: name of :meth:`networks` → what to call instead.
            dtype: of the networks' input; None: this model's.
            device: of the networks' input; None: this model's.

        Raises :class:`pyrcnn.InputError` for an unknown name; losses of the copy raise it too.

        Example:
            >>> from pyrcnn import models
            >>> model = models.build("centernet_mobilenet_v2_fpn_512", input_size=64)
            >>> maps = copy.deepcopy(model.networks()["maps"].module).bfloat16()
            >>> faster = model.with_networks({"maps": maps}, dtype=torch.bfloat16)
            >>> faster.preprocess([torch.zeros(3, 48, 64)])[0].dtype
            torch.bfloat16
        """
        for name in replacements:
            require(name in self.PARTS, f"replacements must be of {', '.join(self.PARTS)}, got {name!r}")
        paths = [path for name in replacements for path in self.PARTS[name]]
        # deepcopy takes from the memo what it finds there: weights that are replaced are never copied
        memo: dict[int, Any] = {id(self.get_submodule(path)): nn.Identity() for path in paths}
        faster = copy.deepcopy(self, memo).requires_grad_(False)
        for name, network in replacements.items():
            parent, _, last = self.PARTS[name][0].rpartition(".")
            module = network if isinstance(network, nn.Module) else _Replacement(network)
            setattr(faster.get_submodule(parent), last, module)
        empty = torch.empty(0, dtype=dtype or self.dtype, device=device or self.device)
        faster.register_buffer("network_input", empty, persistent=False)
        faster.inference_only = True
        return faster.eval()

    def check_trainable(self) -> None:
        """Raise :class:`pyrcnn.InputError` where the networks were replaced."""
        if self.inference_only:
            raise InputError("model must have its own networks to compute losses: train the one it was made from")

    # ---- old names ---------------------------------------------------------------------------------------------------

    def fit(self, images: list[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Deprecated name of :meth:`resize_and_batch`."""
        warnings.warn("Detector.fit is now called resize_and_batch", DeprecationWarning, stacklevel=2)
        return self.resize_and_batch(images, dtype)

    def fitted_loss(
        self, pixels: Tensor, sizes: Tensor, scales: Tensor, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """Deprecated name of :meth:`batch_loss`."""
        warnings.warn("Detector.fitted_loss is now called batch_loss", DeprecationWarning, stacklevel=2)
        return self.batch_loss(pixels, sizes, scales, targets)
