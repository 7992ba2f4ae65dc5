"""A detector for inference alone: the same calls and results as the model it is made from, in less time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, require
from ..memory import keep_freed_memory
from ..models.outputs import PaddedDetections, PaddedPoses, trim
from ..structures import Detections
from .chain import reads_any_layout
from .graphs import CudaCaptures, Replayed, call
from .network import check, prepared
from .pack import Allowed


def fastest_dtype(device: torch.device) -> torch.dtype:
    """The floating type that ``device`` multiplies fastest in hardware, of those that detection stands.

    bfloat16 on GPUs of compute capability 8.0 and up and on CPUs with AMX or AVX-512 BF16; float16 on older GPUs with
    tensor cores; else float32.
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if capability >= (8, 0) else torch.float16 if capability >= (7, 0) else torch.float32
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if able.get("amx_bf16") or able.get("avx512_bf16") else torch.float32


_BOUND = "model is optimized for this process: copy, save or load the one it was made from, and optimize that"


class Optimized(nn.Module):
    """What :func:`optimize` returns: call it as the model itself.

    ``model(images)``, ``preprocess``, ``predict_padded``, and CenterNet's ``heads`` or Faster R-CNN's ``proposals``;
    ``classes``, ``category_ids`` and ``config`` are the model's. It does not train, stays on its device, and is neither
    copied nor saved.
    """

    def __init__(self, model: Any, compile: bool, graphs: int):
        super().__init__()
        self.model = model
        self.config, self.classes, self.category_ids = model.config, model.classes, model.category_ids
        self.layout = torch.contiguous_format
        network = model.predict_padded
        if compile:
            options: Any = {"freezing": True} if self.device.type == "cpu" else None
            network = torch.compile(network, dynamic=False, options=options)
        self.run: Any = partial(call, network)
        if self.device.type == "cuda":
            captures = CudaCaptures()
            self.run = Replayed(network, graphs, captures.capture, captures.settle)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.model.precision.device

    @property
    def dtype(self) -> torch.dtype:
        """What its convolutions compute in."""
        return self.model.precision.dtype

    def forward(self, images: Sequence[Any], targets: None = None) -> list[Detections]:
        """Pictures → list of :class:`Detections` in each picture's own pixels."""
        require(targets is None, "targets must be None: an optimized model does not train")
        if len(images) == 0:
            return []
        pixels, sizes, scales = self.preprocess(images)
        return trim(self.predict_padded(pixels, sizes), sizes, scales)

    @torch.no_grad()
    def preprocess(self, images: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """As the model's: pixels [N, 3, H, W] in the network's dtype and memory format, sizes [N, 2], scales [N, 2]."""
        pixels, sizes, scales = self.model.preprocess(images)
        return self._network_input(pixels), sizes, scales

    @torch.no_grad()
    def predict_padded(
        self, pixels: Tensor, sizes: Tensor, *, out: PaddedDetections | PaddedPoses | None = None
    ) -> PaddedDetections | PaddedPoses:
        """As the model's. ``pixels`` of any floating dtype and memory format.

        Results are fresh tensors; or, where ``out`` is given (the results of an earlier call for as many pictures),
        they are written to it and it is returned: then, with pixels as ``preprocess`` gives them, the replay of a CUDA
        graph allocates nothing.
        """
        with self._surroundings():
            return self.run(self._network_input(pixels), sizes.to(self.device), out=out)

    @torch.no_grad()
    def heads(self, pixels: Tensor) -> dict[str, Tensor]:
        """CenterNet's raw maps in float32, as the model's :meth:`~pyrcnn.models.CenterNet.heads`."""
        require(hasattr(self.model, "heads"), "heads are CenterNet's, this is a Faster R-CNN")
        with self._surroundings():
            return {name: value.float() for name, value in self.model.heads(self._network_input(pixels)).items()}

    @torch.no_grad()
    def proposals(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Faster R-CNN's first stage, as the model's :meth:`~pyrcnn.models.FasterRCNN.proposals`."""
        require(hasattr(self.model, "proposals"), "proposals are Faster R-CNN's, this is a CenterNet")
        with self._surroundings():
            return self.model.proposals(self._network_input(pixels), sizes)

    def train(self, mode: bool = True) -> Optimized:
        """Refuses ``mode`` True."""
        require(not mode, "mode must be False: an optimized model does not train, train the one it was made from")
        return super().train(False)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Refuses, as :meth:`load_state_dict` and pickling do: the weights are laid out for this process."""
        raise InputError(_BOUND)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Refuses: load into the original and optimize that."""
        raise InputError(_BOUND)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise InputError(_BOUND)

    def _network_input(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.device, self.dtype).contiguous(memory_format=self.layout)

    def _surroundings(self) -> AbstractContextManager[Any]:
        if self.device.type == "cuda":
            return torch.cuda.device(self.device)
        # weights are laid out for one dtype: autocast would mix in another
        return torch.autocast("cpu", enabled=False) if self.device.type == "cpu" else nullcontext()

    def _apply(self, fn: Any, recurse: bool = True) -> Optimized:
        wanted = fn(self.model.precision)
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
    fuse: bool = True,
    winograd: bool = True,
    chain: bool = True,
    tiles: bool = True,
    compile: bool = False,
    graphs: int = 8,
    size: tuple[int, int] | None = None,
    keep_memory: bool = True,
) -> Optimized:
    """A faster copy of ``model`` for inference on the device it is on; ``model`` itself is left as it is.

    Args:
        model: a :class:`~pyrcnn.models.CenterNet` or :class:`~pyrcnn.models.FasterRCNN`.
        dtype: what convolutions and linear layers compute in: float32, bfloat16 or float16; None: what the model has;
            "auto": the fastest here that detection stands (:func:`fastest_dtype`). Proposals, boxes, scores after the
            last layer and everything behind them are computed in float32 in any case.
        channels_last: keep feature maps as NHWC in memory, which most convolutions and all RoI operators prefer.
        fold: multiply batch norms into the convolutions before them. Exact up to rounding. Norms that stand before an
            activation (ResNet V2) stay.
        fuse: on CPUs, lay the weights out for oneDNN once instead of in each call, and let convolutions add and apply
            ReLUs before they write. It takes any input size. Ignored where oneDNN has no kernels for ``dtype``.
        winograd: with ``fuse``, channels_last and float32 compute 3x3 convolutions by Winograd's algorithm where it is
            faster: a quarter of the multiplications for four times the weights' memory. Rounding errors are about one
            and a half times a direct convolution's.
        chain: with ``fuse`` and channels_last compute convolutions that follow one another (1x1, depthwise 3x3, 1x1, as
            in MobileNet) tile by tile where it is faster, so that the maps between them, six times as wide, never leave
            the caches: in float32, and in bfloat16 on CPUs with AMX or AVX512_BF16 where a trial of the network finds
            them faster. Where a picture's first convolution is among them, ``preprocess`` leaves pixels in NCHW, which
            it reads as they are.
        tiles: with ``fuse``, channels_last and bfloat16 compute 1x1 and 3x3 convolutions by our own kernel for AMX or
            AVX512_BF16 where a trial of each layer finds it faster than oneDNN's. Which wins may differ from run to
            run, and with it how sums are rounded. The trials, of ``chain`` too, take six calls of every layer and
            twelve of the network, and a second copy of its weights while they last.
        compile: leave that to ``torch.compile`` instead: a minute for each input size when it first comes; after eight
            sizes others run uncompiled. Measured on AVX2 in float32 it is no faster than ``fuse``.
        graphs: on CUDA, the number of input sizes for which a CUDA graph is kept: see
            :class:`~pyrcnn.deploy.graphs.Replayed`. 0: none.
        size: (height, width) of most network inputs, to choose oneDNN's layouts for; None: what the configuration
            leads to.
        keep_memory: on CPUs, let the process keep memory that is freed, for the next feature maps
            (:func:`~pyrcnn.memory.keep_freed_memory`); a matter of the whole process, on glibc alone.

    Raises :class:`pyrcnn.InputError` for another kind of model, dtype or size.

    Example:
        >>> from pyrcnn import models
        >>> model = models.build("centernet_mobilenet_v2_fpn_512", input_size=64)
        >>> len(optimize(model)([torch.zeros(3, 48, 64)]))
        1
    """
    require(dtype is None or dtype == "auto" or isinstance(dtype, torch.dtype), f"dtype must be a torch.dtype, None or "
            f"'auto', got {dtype!r}")  # fmt: skip
    check(model, size)
    if dtype == "auto":
        dtype = fastest_dtype(next(model.parameters()).device)
    allowed = Allowed(winograd, chain, tiles)
    faster = prepared(model, dtype, channels_last, fold, fuse and not compile, size, allowed)  # type: ignore[arg-type]
    optimized = Optimized(faster, compile, graphs)
    if keep_memory and optimized.device.type == "cpu":
        keep_freed_memory()
    if channels_last and not reads_any_layout(faster.backbone):
        optimized.layout = torch.channels_last
    return optimized
