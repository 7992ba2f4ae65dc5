"""One CUDA graph per input size: the whole detector in one launch, without the cost of launching each kernel."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError, require

Function = Callable[..., NamedTuple]

REMEMBERED = 256  # sizes that could not be captured

_one_at_a_time = threading.Lock()  # a process may capture one graph at a time, whichever model it is of


def numerics() -> tuple[Any, ...]:
    """The settings of the process and the thread that determine which kernels run. A graph keeps those of its capture.

    Gradient and inference mode are not among them, because captures set their own.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    return (
        torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None,
        matmul.fp32_precision,
        cudnn.conv.fp32_precision,
        torch.are_deterministic_algorithms_enabled(),
        cudnn.deterministic,
        cudnn.enabled,
    )


def check_out(out: Any, results: NamedTuple) -> None:
    """Raise :class:`pyrcnn.InputError` unless ``out`` has the types, shapes, dtypes and devices of ``results``."""
    require(type(out) is type(results), f"out must be {type(results).__name__}, got {type(out).__name__}")
    for name, to, x in zip(results._fields, out, results, strict=True):
        require((to.shape, to.dtype, to.device) == (x.shape, x.dtype, x.device),
                f"out.{name} must be {list(x.shape)}, {x.dtype} on {x.device}, "
                f"got {list(to.shape)}, {to.dtype} on {to.device}")  # fmt: skip


def copy_into_(out: Any, results: Any) -> Any:
    """Copy ``results`` into ``out``, which was checked before; returns ``out``."""
    with torch.inference_mode():  # allows writing to tensors made inside and outside of it
        for to, x in zip(out, results, strict=True):
            to.copy_(x)
    return out


def call(function: Function, *inputs: Tensor, out: Any = None) -> Any:
    """``function(*inputs)``, copied into ``out`` if that is given."""
    results = function(*inputs)
    if out is None:
        return results
    check_out(out, results)
    return copy_into_(out, results)


@contextmanager
def _own_casts() -> Iterator[None]:
    """Make autocast convert weights inside the graph: those in its cache are freed when its region ends."""
    kept = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(kept)


class CudaCaptures:
    """Captures CUDA graphs of one model for :class:`Replayed`.

    The graphs share one memory pool, so they run one after the other. Each owns the tensors that inputs are copied to
    and results are copied from, so it aliases neither the caller's inputs nor earlier results. With ``out`` a replay
    allocates nothing; without ``out`` it allocates the results, from torch's cache.
    """

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.done = (
            torch.cuda.Event()
        )  # of the previous replay, which another thread may have launched on another stream

    def settle(self) -> None:
        """Wait until no graph runs. Any stream may then reuse the memory of a graph that is dropped."""
        self.done.synchronize()

    def capture(self, function: Function, inputs: tuple[Tensor, ...]) -> Function:
        """``function`` as a graph for inputs like these. Call it with the same current device as now."""
        # Tensors made in inference mode cannot be written to outside it.
        with _one_at_a_time, torch.inference_mode(False), torch.no_grad(), _own_casts():
            return self._capture(function, inputs)

    def _capture(self, function: Function, inputs: tuple[Tensor, ...]) -> Function:
        here = torch.cuda.current_stream()
        here.wait_event(self.done)
        held = tuple(torch.empty_like(x).copy_(x) for x in inputs)  # the graph reads these addresses
        aside = torch.cuda.Stream()  # on this device: torch's own capture stream is on the first device that captured
        aside.wait_stream(here)
        try:
            with torch.cuda.stream(aside):
                for _ in range(2):  # libraries choose algorithms and allocate workspaces outside the graph
                    function(*held)
        finally:
            here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=aside, capture_error_mode="thread_local"):
            outputs = function(*held)

        def replay(*given: Tensor, out: Any = None) -> NamedTuple:
            if out is not None:
                check_out(out, outputs)
            torch.cuda.current_stream().wait_event(self.done)
            for to, x in zip(held, given, strict=True):
                to.copy_(x)
            graph.replay()
            results = type(outputs)(*(x.clone() for x in outputs)) if out is None else copy_into_(out, outputs)
            self.done.record()
            return results

        return replay


class Replayed:
    """``function`` of tensors, captured once per size of its arguments and replayed from then on.

    A size is the arguments' shapes, dtypes, memory formats and devices, and the settings of the call
    (:func:`numerics`). At most ``capacity`` captures are kept. While there are fewer, a new size is captured when it
    first comes. Later a new size runs uncaptured; if it comes again while it is remembered, its capture replaces the
    least recently used one. So images that all differ in size do not displace the sizes that repeat. A size that cannot
    be captured, for example for lack of memory, always runs uncaptured, after one warning. Threads take turns.
    ``settle`` is called before a capture is dropped.

    Results are new tensors, or those given as ``out``, such as the results of an earlier call of the same size.
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
        self.refused: OrderedDict[Any, None] = OrderedDict()  # oldest first
        self.lock = threading.Lock()

    def __call__(self, *inputs: Tensor, out: Any = None) -> NamedTuple:
        """What ``function`` returns, in ``out`` if that is given."""
        key = (*((x.shape, x.stride(), x.dtype, x.device) for x in inputs), numerics())
        with self.lock:
            run = self.captured.get(key) or self._admit(key, inputs)
            if run is not None:
                self.captured.move_to_end(key)
                return run(*inputs, out=out)
        return call(self.function, *inputs, out=out)

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
            self.refused[key] = None
            if len(self.refused) > REMEMBERED:
                self.refused.popitem(last=False)
            warnings.warn(f"no CUDA graph for inputs {[list(x.shape) for x in inputs]}, they run without: {error}",
                          stacklevel=4)  # fmt: skip
            return None
        return self.captured[key]
