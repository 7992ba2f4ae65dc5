"""One CUDA graph per input size: the whole detector in one launch, without the cost of issuing its kernels."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError

Function = Callable[..., NamedTuple]


_one_at_a_time = threading.Lock()  # a process may capture one graph at a time, whichever model it is of


class CudaCaptures:
    """How :class:`Replayed` captures and gives up CUDA graphs of one model.

    The graphs share one memory pool, so they run one after the other. Each owns the tensors that its inputs are copied
    to and those that its results are copied from, so neither the caller's inputs nor earlier results are ever aliased.
    """

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.done = torch.cuda.Event()  # of the replay before, which another thread may have issued to another stream

    def settle(self) -> None:
        """Wait until no graph runs: the memory of one that is given up is free for any stream from then on."""
        self.done.synchronize()

    def capture(self, function: Function, inputs: tuple[Tensor, ...]) -> Function:
        """``function`` for inputs like these, to be called on the device that is current now."""
        # Tensors made in inference mode could not be written to outside it.
        with _one_at_a_time, torch.inference_mode(False), torch.no_grad():
            return self._capture(function, inputs)

    def _capture(self, function: Function, inputs: tuple[Tensor, ...]) -> Function:
        here = torch.cuda.current_stream()
        here.wait_event(self.done)
        held = tuple(torch.empty_like(x).copy_(x) for x in inputs)  # the graph reads from these addresses
        aside = torch.cuda.Stream()  # of this device: torch's own capture stream is on the one that captured first
        aside.wait_stream(here)
        try:
            with torch.cuda.stream(aside):
                for _ in range(2):  # libraries choose their algorithms and make their workspaces outside the graph
                    function(*held)
        finally:
            here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=aside, capture_error_mode="thread_local"):
            outputs = function(*held)

        def replay(*given: Tensor) -> NamedTuple:
            torch.cuda.current_stream().wait_event(self.done)
            for to, x in zip(held, given, strict=True):
                to.copy_(x)
            graph.replay()
            results = type(outputs)(*(x.clone() for x in outputs))
            self.done.record()
            return results

        return replay


class Replayed:
    """``function`` of tensors, captured once per shapes of its arguments and replayed from then on.

    At most ``capacity`` captures are kept. While there is room a size is captured when it first comes. Later a new size
    runs uncaptured until it comes again while still remembered; it then takes the place of the one unused for longest:
    pictures that are all of different sizes do not push out what is used. A size that cannot be captured (the memory
    does not suffice, say) runs uncaptured ever after, with one warning. Results are fresh tensors. Threads take turns.
    ``settle`` is called before a capture is given up.
    """

    def __init__(
        self,
        function: Function,
        capacity: int,
        capture: Callable[[Function, tuple[Tensor, ...]], Function],
        settle: Callable[[], None] = lambda: None,
    ):
        self.function, self.capacity, self.capture, self.settle = function, capacity, capture, settle
        self.captured: OrderedDict[Any, Function] = OrderedDict()  # least recently used first
        self.seen: OrderedDict[Any, None] = OrderedDict()  # sizes that found no room, oldest first
        self.refused: set[Any] = set()
        self.lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> NamedTuple:
        """What ``function`` returns."""
        key = tuple((x.shape, x.stride(), x.dtype) for x in inputs)
        with self.lock:
            run = self.captured.get(key) or self._admit(key, inputs)
            if run is not None:
                self.captured.move_to_end(key)
                return run(*inputs)
        return self.function(*inputs)

    def _admit(self, key: Any, inputs: tuple[Tensor, ...]) -> Function | None:
        if key in self.refused or self.capacity <= 0:
            return None
        if len(self.captured) >= self.capacity and key not in self.seen:
            self.seen[key] = None
            if len(self.seen) > self.capacity:
                self.seen.popitem(last=False)
            return None
        self.seen.pop(key, None)
        if len(self.captured) >= self.capacity:
            self.settle()
            self.captured.popitem(last=False)
        try:
            self.captured[key] = self.capture(self.function, inputs)
        except InputError:  # the arguments are wrong, captured or not
            raise
        except RuntimeError as error:
            self.refused.add(key)
            warnings.warn(f"no CUDA graph for inputs {[list(x.shape) for x in inputs]}, they run without: {error}",
                          stacklevel=4)  # fmt: skip
            return None
        return self.captured[key]
