"""A detector for inference: the same calls and results as the model it is made from, in less time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, require
from ..memory import keep_freed_memory
from ..models.outputs import PaddedDetections, PaddedPoses, trim
from ..models.preprocess import count_images
from ..structures import Detections
from .cuda_graphs import CudaCaptures, Replayed, call
from .engines import Engine, Options, choose_engine
from .machine import machine
from .networks import check_model, replace_networks


def fastest_dtype(device: torch.device) -> torch.dtype:
    """The fastest dtype on ``device`` that preserves accuracy.

    bfloat16 on GPUs of compute capability 8.0 and up and on CPUs with AMX or AVX512_BF16; float16 on older GPUs with
    tensor cores; else float32.

    Args:
        device: a CPU or CUDA device.

    Example:
        >>> fastest_dtype(torch.device("cpu")) in (torch.float32, torch.bfloat16)
        True
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if capability >= (8, 0) else torch.float16 if capability >= (7, 0) else torch.float32
    return torch.bfloat16 if machine().bfloat16 else torch.float32


_BOUND = "model is optimized for this process: copy, save or load the one it was made from, and optimize that"


class Optimized(nn.Module):
    """What :func:`optimize` returns: call it as the model itself.

    ``model(images)``, ``preprocess``, ``predict_padded``, and CenterNet's ``heads`` or Faster R-CNN's ``proposals``;
    ``classes``, ``category_ids`` and ``config`` are the model's; ``engine`` is the name of the engine. Several Python
    threads may call it at once. It cannot be trained, moved, copied or saved.

    Raises:
        pyrcnn.InputError: when called, for invalid images; and when it is trained, moved, copied or saved.

    Example:
        >>> from pyrcnn import models
        >>> fast = optimize(models.build("centernet_mobilenet_v2_fpn_512", input_size=64), engine="native")
        >>> fast.engine
        'native'
    """

    def __init__(self, model: Any, engine: Engine, graphs: int = 0):
        super().__init__()
        self.model = model
        self.config, self.classes, self.category_ids = model.config, model.classes, model.category_ids
        self.engine = engine.name
        self.layout = engine.pixels_layout
        self._multiple = model.size_multiple() if engine.only_multiples else 1
        self.run: Any = partial(call, model.predict_padded)
        if self.device.type == "cuda":
            captures = CudaCaptures()
            self.run = Replayed(model.predict_padded, graphs, captures.capture, captures.settle)
        self.eval()

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that convolutions compute in, and of the pixels."""
        return self.model.dtype

    def forward(self, images: Sequence[Any], targets: None = None) -> list[Detections]:
        """Images → list of :class:`Detections`, each in its image's own pixels."""
        require(targets is None, "targets must be None: an optimized model does not train")
        if count_images(images) == 0:
            return []
        pixels, sizes, scales = self.preprocess(images)
        return trim(self.predict_padded(pixels, sizes), sizes, scales)

    @torch.no_grad()
    def preprocess(self, images: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """As the model's: pixels [N, 3, H, W] in the networks' dtype and memory format, sizes [N, 2], scales [N, 2]."""
        pixels, sizes, scales = self.model.preprocess(images)
        return self._network_input(pixels), sizes, scales

    @torch.no_grad()
    def predict_padded(
        self, pixels: Tensor, sizes: Tensor, *, out: PaddedDetections | PaddedPoses | None = None
    ) -> PaddedDetections | PaddedPoses:
        """As the model's. ``pixels`` of any floating dtype and memory format.

        Results are new tensors, unless ``out`` is given: the results of an earlier call for the same number of images,
        which are overwritten and returned. Then the replay of a CUDA graph allocates nothing, if the pixels come from
        ``preprocess``.
        """
        with self._context():
            return self.run(self._network_input(pixels), sizes.to(self.device), out=out)

    @torch.no_grad()
    def heads(self, pixels: Tensor) -> dict[str, Tensor]:
        """CenterNet's raw maps in float32, as the model's :meth:`~pyrcnn.models.CenterNet.heads`."""
        require(hasattr(self.model, "heads"), f"heads needs a CenterNet, got {type(self.model).__name__}")
        with self._context():
            return {name: value.float() for name, value in self.model.heads(self._network_input(pixels)).items()}

    @torch.no_grad()
    def proposals(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Faster R-CNN's first stage, as the model's :meth:`~pyrcnn.models.FasterRCNN.proposals`."""
        require(hasattr(self.model, "proposals"), f"proposals needs a FasterRCNN, got {type(self.model).__name__}")
        with self._context():
            return self.model.proposals(self._network_input(pixels), sizes)

    def train(self, mode: bool = True) -> Optimized:
        """Raises :class:`pyrcnn.InputError` if ``mode`` is True."""
        require(not mode, "mode must be False: an optimized model does not train, train the one it was made from")
        return super().train(False)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Raises :class:`pyrcnn.InputError`, as :meth:`load_state_dict`, copying and pickling do."""
        raise InputError(_BOUND)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Raises :class:`pyrcnn.InputError`: load into the original model and optimize that."""
        raise InputError(_BOUND)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise InputError(_BOUND)

    def _network_input(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        require(height % self._multiple == 0 and width % self._multiple == 0,
                f"pixels must have sides that are multiples of {self._multiple} for engine {self.engine}, "
                f"got {height} x {width}")  # fmt: skip
        return pixels.to(self.device, self.dtype).contiguous(memory_format=self.layout)

    def _context(self) -> AbstractContextManager[Any]:
        if self.device.type == "cuda":
            return torch.cuda.device(self.device)
        # Weights are reordered for one dtype: autocast would mix in another.
        return torch.autocast("cpu", enabled=False) if self.device.type == "cpu" else nullcontext()

    def _apply(self, fn: Any, recurse: bool = True) -> Optimized:
        wanted = fn(torch.empty(0, dtype=self.dtype, device=self.device))
        if (wanted.device, wanted.dtype) != (self.device, self.dtype):
            raise InputError(
                f"model is optimized for {self.dtype} on {self.device}, not {wanted.dtype} on {wanted.device}: "
                "convert the original and optimize that"
            )
        return self


def optimize(
    model: nn.Module,
    dtype: torch.dtype | str | None = None,
    channels_last: bool = True,
    fold: bool = True,
    *,
    engine: str = "auto",
    fuse: bool = True,
    winograd: bool = True,
    chain: bool = True,
    tiles: bool | None = None,
    compile: bool = False,
    graphs: int = 8,
    size: tuple[int, int] | None = None,
    keep_memory: bool = True,
) -> Optimized:
    """A faster copy of ``model`` for inference on the device of ``model``, which is left unchanged.

    Args:
        model: a :class:`~pyrcnn.models.CenterNet` or :class:`~pyrcnn.models.FasterRCNN`.
        dtype: of convolutions and linear layers: float32, bfloat16 or float16; None: the model's; "auto": the fastest
            here that preserves accuracy (:func:`fastest_dtype`; float32 for networks with depthwise convolutions where
            the engine is native on a CPU). The last layers of the network and everything after them compute in float32
            with each dtype.
        channels_last: engine native: keep feature maps as NHWC in memory, which is faster for most convolutions and all
            RoI operators.
        fold: multiply batch norms into the convolutions before them. Exact up to rounding. Norms before an activation
            (ResNet V2) stay.
        engine: what runs the networks; the operators between them are pyrcnn's with each engine.

            - "native": torch, on CPUs with pyrcnn's own kernels for some convolutions.
            - "inductor": ``torch.compile``. Each of the first eight input sizes takes up to a minute when it first
              comes; others run uncompiled.
            - "openvino" (CPU; float32, bfloat16) and "onnxruntime" (CPU; float32): these packages, which must be
              installed. Sides of the network input must be multiples of ``model.size_multiple()``, as ``preprocess``
              makes them.
            - "auto": the fastest in our measurements (:data:`~pyrcnn.deploy.engines.FASTEST`) among those that are
              installed and support the model; native if one of the arguments that concern native alone is False.
        fuse: engine native, CPU: reorder weights for oneDNN once, and let convolutions add and apply ReLUs before they
            write. Takes any input size. Ignored where oneDNN has no kernels for ``dtype``.
        winograd: with ``fuse``, channels_last and float32: compute 3x3 convolutions by Winograd's algorithm where it is
            faster. It needs a quarter of the multiplications and four times the memory for weights. Rounding errors are
            about 1.5 times a direct convolution's.
        chain: with ``fuse``, channels_last and float32: compute consecutive convolutions (1x1, depthwise 3x3, 1x1, as
            in MobileNet) block by block where it is faster, so that the maps between them, six times as wide, stay in
            the cache. If the first convolution of the network is among them, ``preprocess`` returns pixels in NCHW.
        tiles: deprecated and ignored.
        compile: deprecated; True means ``engine="inductor"``.
        graphs: on CUDA, the number of input sizes for which a CUDA graph is kept
            (:class:`~pyrcnn.deploy.cuda_graphs.Replayed`); 0: none.
        size: engine native: (height, width) of most network inputs, to choose oneDNN's layouts for; None: what the
            configuration leads to.
        keep_memory: on CPUs, let the process keep freed memory for the next feature maps
            (:func:`~pyrcnn.memory.keep_freed_memory`). Affects the whole process; needs glibc.

    Raises:
        pyrcnn.InputError: for another kind of model, an invalid argument, and an engine that is not installed or does
            not support the model.

    Example:
        >>> from pyrcnn import models
        >>> model = models.build("centernet_mobilenet_v2_fpn_512", input_size=64)
        >>> len(optimize(model)([torch.zeros(3, 48, 64)]))
        1
    """
    if tiles is not None:
        warnings.warn("optimize: tiles is deprecated and has no effect", DeprecationWarning, stacklevel=2)
    if compile:
        warnings.warn('optimize: compile=True is deprecated, use engine="inductor"', DeprecationWarning, stacklevel=2)
        engine = "inductor"
    require(dtype is None or dtype == "auto" or isinstance(dtype, torch.dtype), f"dtype must be a torch.dtype, None or "
            f"'auto', got {dtype!r}")  # fmt: skip
    check_model(model, None if isinstance(dtype, str) else dtype, size)
    detector: Any = model
    chosen = fastest_dtype(detector.device) if isinstance(dtype, str) else dtype or detector.dtype
    options = Options(detector.device, chosen, size, channels_last, fuse, winograd, chain)
    if engine == "auto" and not (channels_last and fuse and winograd and chain):
        engine = "native"
    kind = choose_engine(engine, detector, options)
    if isinstance(dtype, str):
        options = replace(options, dtype=kind.fastest_dtype(detector, options))
    runner = kind(options)
    faster = replace_networks(
        detector,
        options.dtype,
        weight_dtype=runner.weight_dtype,
        channels_last=runner.channels_last,
        fold=fold,
        size=runner.example_size(detector),
        build=lambda name, graph, example: runner.build(graph, example),
    )
    if keep_memory and options.device.type == "cpu":
        keep_freed_memory()
    return Optimized(faster, runner, graphs)
