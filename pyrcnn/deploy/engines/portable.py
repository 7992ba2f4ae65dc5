"""What engines share that run networks outside torch: one program for all input sizes, results allocated by torch."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from ...errors import require
from ...models.detector import Detector
from ...models.layers import upsample_nearest
from ..fx_graph import copy_to_meta, remove_unused_, result_shapes
from ..quiet import without_warnings
from .base import Engine, Options, Run

MAX_SHAPES = 256  # input shapes whose results' shapes are remembered


def fix_scales_(graph: fx.GraphModule, example: Sequence[int]) -> None:
    """Let maps that are upsampled to the size of another map be upsampled by two.

    Raises :class:`pyrcnn.InputError` if these differ for an input like ``example``.
    """
    shapes = result_shapes(graph, example, torch.float32)
    for node in graph.graph.nodes:
        if node.target is not F.interpolate or "size" not in node.kwargs:
            continue
        before, after = shapes[node.args[0].name], shapes[node.name]
        doubled = [*before[:2], 2 * before[2], 2 * before[3]]
        require(after == doubled and node.kwargs.get("mode") == "nearest",
                f"model must upsample feature maps by two, got {before[2:]} to {after[2:]}")  # fmt: skip
        node.target, node.args, node.kwargs = upsample_nearest, node.args[:1], {}
    remove_unused_(graph)


class Results:
    """Allocates the results of a network; remembers their shapes for :data:`MAX_SHAPES` shapes of its input."""

    def __init__(self, graph: fx.GraphModule, dtype: torch.dtype, example: tuple[int, ...]):
        self.graph, self.dtype, self.example = copy_to_meta(graph).to(dtype), dtype, example
        self.known: OrderedDict[tuple[int, ...], tuple[list[Tensor], Any]] = OrderedDict()
        self.lock = threading.Lock()

    def like(self, shape: tuple[int, ...]) -> tuple[list[Tensor], Any]:
        """The results for an input of this ``shape`` as tensors on the meta device, and how to unflatten them."""
        with self.lock:
            if shape not in self.known:
                result = self.graph(torch.empty(shape, device="meta", dtype=self.dtype))
                self.known[shape] = pytree.tree_flatten(result)
                if len(self.known) > MAX_SHAPES:
                    self.known.popitem(last=False)
            return self.known[shape]

    def allocate(self, shape: tuple[int, ...], channels_last: bool = False) -> tuple[list[Tensor], Any]:
        """New tensors for the results, feature maps in channels_last if wanted, and how to unflatten them."""
        like, structure = self.like(shape)
        layouts = [torch.channels_last if channels_last and x.dim() == 4 else torch.contiguous_format for x in like]
        tensors = [torch.empty(x.shape, dtype=x.dtype, memory_format=f) for x, f in zip(like, layouts, strict=True)]
        return tensors, structure


class PortableEngine(Engine):
    """Converts a network once, from an example with small odd sizes, into a program that serves every size.

    Convolution and pooling do not depend on the size of their input. Padding and upsampling do, but behave the same for
    all inputs whose sides are multiples of :meth:`~pyrcnn.models.detector.Detector.size_multiple`. The example's sides
    are odd multiples, the case in which fewest feature maps have even sides.
    """

    only_multiples = True

    def __init__(self, options: Options):
        super().__init__(options)
        self.channels_last = False
        self.pixels_layout = torch.contiguous_format

    @classmethod
    def refusal(cls, model: Detector, options: Options) -> str | None:
        """Also refuses other devices than the CPU, and size multiples at which feature maps have odd sides."""
        if options.device.type != "cpu":
            return f"engine {cls.name} needs a model on the CPU, got one on {options.device}"
        multiple = model.size_multiple()
        if multiple % 32:
            return f"engine {cls.name} needs a model whose image sides are multiples of 32, got multiples of {multiple}"
        return super().refusal(model, options)

    @property
    def weight_dtype(self) -> torch.dtype:
        """float32: the runtime converts weights."""
        return torch.float32

    def example_size(self, model: Detector) -> tuple[int, int]:
        """Odd multiples."""
        return 3 * model.size_multiple(), 5 * model.size_multiple()

    def build(self, graph: fx.GraphModule, example: tuple[int, ...]) -> Run:
        """A callable for inputs of any batch size."""
        example = (2, *example[1:])  # torch.export would take a batch size of 1 for a constant
        fix_scales_(graph, example)
        results = Results(graph, self.options.dtype, example)
        with without_warnings(), torch.no_grad():
            program = self.convert(graph, torch.zeros(example), [x.dtype for x in results.like(example)[0]])
        return self.runner(program, results)

    @abstractmethod
    def convert(self, graph: fx.GraphModule, example: Tensor, dtypes: list[torch.dtype]) -> Any:
        """The runtime's program for ``graph``; ``dtypes``: of its results."""

    @abstractmethod
    def runner(self, program: Any, results: Results) -> Run:
        """A callable that runs ``program``."""
