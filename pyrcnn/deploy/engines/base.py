"""What an engine is: it takes the networks of a detector and returns faster callables of the same signatures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from ...errors import require
from ...models.detector import Detector

Run = Callable[[Tensor], Any]  # a network: one tensor → a tensor, or a list, tuple or dict of tensors


@dataclass(frozen=True)
class Options:
    """The arguments of :func:`~pyrcnn.deploy.optimize` that concern engines."""

    device: torch.device
    dtype: torch.dtype
    size: tuple[int, int] | None = None
    channels_last: bool = True
    fuse: bool = True
    winograd: bool = True
    chain: bool = True


class Engine(ABC):
    """Runs networks on one device in one dtype.

    Engines do not know detectors: the detector calls what :meth:`build` returns in the place of its networks, from any
    number of Python threads. Inputs and results have ``options.dtype``, results of
    :class:`~pyrcnn.models.layers.Float32Layer` float32. No later call may write to a result.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()  # what must be installed
    only_multiples: ClassVar[bool] = False  # whether sides of images must be multiples of Detector.size_multiple()

    def __init__(self, options: Options):
        self.options = options
        self.channels_last = options.channels_last  # of weights and regions when build gets the networks
        self.pixels_layout = torch.channels_last if self.channels_last else torch.contiguous_format

    @classmethod
    def missing(cls) -> list[str]:
        """The packages that are not installed."""
        return [name for name in cls.packages if find_spec(name) is None]

    @classmethod
    def refusal(cls, model: Detector, options: Options) -> str | None:
        """Why this engine cannot run ``model``, as an error message; None if it can."""
        missing = cls.missing()
        if missing:
            packages = f"package{'s' * (len(missing) > 1)} {' and '.join(missing)}"
            return f"engine {cls.name} needs the {packages}: pip install {' '.join(missing)}"
        return None

    @classmethod
    def check(cls, model: Detector, options: Options) -> None:
        """Raise :class:`pyrcnn.InputError` if this engine cannot run ``model``."""
        refusal = cls.refusal(model, options)
        require(refusal is None, str(refusal))

    @classmethod
    def fastest_dtype(cls, model: Detector, options: Options) -> torch.dtype:
        """What "auto" uses instead of ``options.dtype``, which is the fastest for most models on this hardware."""
        return options.dtype

    @property
    def weight_dtype(self) -> torch.dtype:
        """The dtype of the networks' weights when :meth:`build` gets them."""
        return self.options.dtype

    def example_size(self, model: Detector) -> tuple[int, int]:
        """Height and width of the network input that examples are made for."""
        return self.options.size or model.input_size()

    @abstractmethod
    def build(self, graph: fx.GraphModule, example: tuple[int, ...]) -> Run:
        """A callable that computes ``graph``, which belongs to the engine. ``example``: shape of a typical input.

        Sets ``pixels_layout`` if ``graph`` reads the pixels and is faster in another memory format.
        """
