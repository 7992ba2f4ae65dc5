"""The losses of one batch, computed by one process or by several that share the batch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data.loader import SeededBatch
from ..errors import require
from ..memory import upload
from ..models.detector import Detector
from ..models.training import Term, Truth
from ..models.wrapping import PARALLEL, unwrap
from .config import TrainConfig
from .distributed import World

OBJECTS = 16  # the number of objects per image is padded to a multiple of it: a compiler sees few shapes
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class LossCall(nn.Module):
    """The call of a model that computes its losses, and nothing else: what ``DistributedDataParallel`` wraps.

    Other detectors than those of this package return the means of their losses over the images.
    """

    def __init__(self, model: nn.Module, device: torch.device, precision: str):
        super().__init__()
        self.model, self.device_type, self.dtype = model, device.type, _DTYPES.get(precision)

    def forward(self, *inputs: Any) -> dict[str, Term]:
        """What :meth:`Losses.inputs` returned → the losses as sums and counts."""
        with torch.autocast(self.device_type, self.dtype) if self.dtype else contextlib.nullcontext():
            if isinstance(self.model, Detector):
                return self.model.loss_terms(*inputs)
            images, targets = inputs
            losses = self.model(images, targets)
            return {name: Term(loss * len(images), loss.new_full((), len(images))) for name, loss in losses.items()}


class Losses:
    """Computes the losses of batches and their gradients."""

    def __init__(self, given: nn.Module, model: nn.Module, config: TrainConfig, world: World, precision: str):
        self.model, self.world = model, world
        # DataParallel splits the images itself. A compiled model is trained without its compilation: each size of
        # images would be compiled anew.
        inner = unwrap(given, keep=PARALLEL)
        require(
            world.size == 1 or inner is model,
            f"model must be the detector itself where several processes train, got it in {type(inner).__name__}: "
            "fit distributes it",
        )
        self.padded = isinstance(inner, Detector)
        call = LossCall(inner, world.device, precision)
        if config.compile:
            call.compile()
        self.call: nn.Module = call
        if world.size > 1:
            self.call = DistributedDataParallel(
                call, gradient_as_bucket_view=True, find_unused_parameters=not self.padded
            )

    def backward(
        self, batch: SeededBatch, images: int, scaler: torch.amp.GradScaler, fraction: float, last: bool
    ) -> dict[str, Tensor]:
        """Add this batch's gradients to those of the parameters; return the losses of the whole batch.

        Args:
            batch: this process's part of the batch, or any image if it has none.
            images: how many images of the batch are this process's.
            scaler: scales the loss, for float16.
            fraction: the weight of this batch in the step.
            last: whether it is the step's last batch, after which the processes share their gradients.
        """
        with contextlib.nullcontext() if last or self.world.size == 1 else self.call.no_sync():  # type: ignore[operator]
            loss, losses = self._reduced(self.call(*self._inputs(batch)), images > 0)
            scaler.scale(loss * fraction).backward()
        return losses

    def _reduced(self, terms: Mapping[str, Term], counted: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Divide this process's sums, and the sums of all processes, by the counts of all processes.

        ``DistributedDataParallel`` averages the gradients of the processes, and their sum is wanted: hence the factor.
        """
        totals = torch.stack([term.total.float() for term in terms.values()])
        counts = torch.stack([term.samples.float() for term in terms.values()])
        if not counted:
            totals, counts = totals * 0, counts * 0
        sums, counts = self.world.add_(torch.cat([totals.detach(), counts])).chunk(2)
        counts = counts.clamp(min=1)
        means = sums / counts
        return (totals / counts).sum() * self.world.size, {
            "loss": means.sum(),
            **dict(zip(terms, means, strict=True)),
        }

    def _inputs(self, batch: SeededBatch) -> tuple[Any, ...]:
        device = self.world.device
        images = [upload(image, device) for image in batch.images]
        if not self.padded:
            return images, [t.to(device, non_blocking=True) for t in batch.targets]
        model: Any = self.model
        truth = model.pad_targets(batch.targets, batch.seeds, OBJECTS)
        height, width = self.world.highest(*model.padded_size(images))  # so that all compute what one process would
        with torch.no_grad():
            pixels = model.resize_and_batch(images, model.dtype, (height, width))
        return *pixels, Truth(*(upload(t, device) for t in truth))
